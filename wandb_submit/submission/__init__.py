"""Submitting a sweep, and what becomes of it."""
