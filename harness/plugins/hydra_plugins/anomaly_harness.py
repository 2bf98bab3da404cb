"""Where Hydra looks for plugins; `harness.__main__` puts this folder on the path."""

from harness.sweeper import GridSweeper

__all__ = ["GridSweeper"]
