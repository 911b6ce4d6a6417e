"""Training that survives preemption: a run that is cut short goes on later, under its own id, at its next step.

When the script is told to end (SIGTERM, or SIGUSR2), it says that it is being preempted and exits with an error. The
server then hands the run out again, and the next agent starts this script for it.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

import wandb

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--steps", type=int, default=40)
args = parser.parse_args()

told_to_end = False


def on_signal(_number, _frame):
    global told_to_end
    told_to_end = True


signal.signal(signal.SIGTERM, on_signal)
signal.signal(signal.SIGUSR2, on_signal)

with wandb.init(resume="allow") as run:
    # In a folder that all nodes share, by the run's id, which stays the same.
    checkpoint = Path("checkpoints") / f"{run.id}.json"
    checkpoint.parent.mkdir(exist_ok=True)
    state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"step": 0, "weight": 0.0}

    while state["step"] < args.steps:
        weight = state["weight"] - args.lr * 2 * (state["weight"] - 1)
        time.sleep(0.25)  # where a real script computes
        run.log({"loss": (weight - 1) ** 2}, step=state["step"])

        state = {"step": state["step"] + 1, "weight": weight}
        draft = checkpoint.with_suffix(".new")
        draft.write_text(json.dumps(state))
        draft.replace(checkpoint)  # the old one or the new one, never half of one

        if told_to_end:
            run.mark_preempting()
            sys.exit(1)
