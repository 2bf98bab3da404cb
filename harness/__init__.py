"""The benchmark harness that industrial visual anomaly detection trusts."""

__version__ = "0.1.0"
