"""Detection models that anomalib lacks, in anomalib's shape."""
