"""Array tasks on this machine, with Slurm's meaning: a queue, devices of their own, a time limit, requeue."""
