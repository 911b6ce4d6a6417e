"""What one node of a task finds wrong with its GPUs, on a line of standard output; the command line says how many."""

from __future__ import annotations

import sys

from wandb_submit.agent import gpus

if __name__ == "__main__":
    if complaint := gpus.why_not(int(sys.argv[1])):
        sys.stdout.write(f"{complaint}\n")
