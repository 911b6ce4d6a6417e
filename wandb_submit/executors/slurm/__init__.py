"""Submitting to Slurm."""
