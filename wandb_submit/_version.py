"""The version, which needs nothing else to be read."""

__version__ = "0.1.0"
