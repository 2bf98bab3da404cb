"""Execute one run: train, evaluate every epoch, track, resume."""
