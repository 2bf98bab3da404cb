"""Speed, measured side by side: the same work by the harness and by what it is compared with, in one process."""
