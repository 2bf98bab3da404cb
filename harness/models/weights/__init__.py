"""Weights and auxiliary data: one place to look for them, one safe way to load them, named by content."""

from harness.models.weights.files import load_state
from harness.models.weights.items import ITEMS, find

__all__ = ["ITEMS", "find", "load_state"]
