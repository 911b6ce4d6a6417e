"""A small training: logs once a second with `wandb`, for so long, counted from the start of its Python."""

import sys
import time

began = time.time()

import wandb  # noqa: E402 - its import is a part of the trial

seconds = float(sys.argv[1])
with wandb.init() as run:
    step = 0
    while time.time() - began < seconds:
        run.log({"loss": 1 / (step + 1)})
        step += 1
        time.sleep(min(1.0, max(seconds - (time.time() - began), 0)))
