"""Artifacts: versioned collections of files that runs log and use."""
