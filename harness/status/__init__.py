"""`python -m harness.status`: what is running, finished, failed and left, and how long it will take."""
