"""Sweeps: their records, their search, their agents."""
