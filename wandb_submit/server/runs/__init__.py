"""Runs: their records, their states, and what they have logged."""
