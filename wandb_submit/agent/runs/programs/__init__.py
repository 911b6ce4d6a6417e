"""Programs that the training environment's own interpreter runs by their path: Python 3.8 on, nothing else."""
