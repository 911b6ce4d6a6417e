"""How a run's process is made and ended."""
