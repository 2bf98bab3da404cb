"""Tuning a method's settings: search space, study, trials, and what is written of them."""
