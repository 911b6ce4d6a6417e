"""What a task sees of the GPUs that it asked for, before it takes a run that would lack them or use a stranger's."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from wandb_submit.devices.variables import entries, variable_of
from wandb_submit.spec import SubmissionSpec
from wandb_submit.text import counted

_DEVICES = Path("/dev")
# sbatch's other options that ask for GPUs, and how their values begin where they do.
_OPTIONS = {"gres": "gpu", "gpus": "", "gpus-per-node": "", "tres-per-task": "gres"}


def why_not(wanted: int) -> str | None:
    """Why this task must not take a run, as far as its GPUs on this node go; `None` where all is well.

    Where Slurm confines jobs to their devices, a task with the node's GPU 2 sees it as 0: numbers that count from 0
    are right there, as Slurm's own are everywhere. Others, which a prolog or a line of --setup has set, are somebody
    else's GPUs.
    """
    if not wanted:
        return None
    name = variable_of(os.environ)
    visible, given, whose = _listed(name), *_given()
    node = f"on {socket.gethostname()} the task asked for {counted(wanted, 'GPU')}"
    if len(visible) < wanted:
        sees = f"{name} is {os.environ[name]!r}" if name in os.environ else f"{name} is not set"
        told = f", although it has {','.join(given)} from {whose}" if given else ""
        return (
            f"{node} and sees {len(visible) or 'none'} ({sees}{told}): look at what the node's prolog and --setup do "
            "with that variable; --exclude avoids a node"
        )
    from_zero = map(str, range(len(given))) if whose == "Slurm" and _is_confined(len(given)) else ()
    own = {*given, *from_zero}
    # Slurm tells numbers, and does not know the UUIDs that a site may put in their place.
    if given and (len(visible) > len(given) or any(gpu not in own and gpu.isdecimal() for gpu in visible)):
        return (
            f"{node} and would use GPUs that are not its own: {name} is {os.environ[name]!r}, but {whose} gave it "
            f"{','.join(given)}: a prolog or a line of --setup must not set that variable"
        )
    return None


def node_gpus(gpus: str | None) -> str | None:
    """The node's own numbers of some of the GPUs that this task sees; `None` where Slurm does not tell.

    Where the cluster confines a job to its devices, the variable that tells them is 0 in every job of one GPU.
    """
    visible, numbers = _listed(variable_of(os.environ)), _slurms()
    if not gpus or len(numbers) != len(visible):
        return None
    return ",".join(dict(zip(visible, numbers, strict=True))[gpu] for gpu in gpus.split(","))


def wanted(spec: SubmissionSpec) -> int:
    """How many GPUs the task asked for on each of its nodes; at least one, if sbatch was asked in words of its own."""
    asked = any(
        (spec.sbatch.get(key) or "-").startswith(start) for key, start in _OPTIONS.items() if key in spec.sbatch
    )
    return int(asked and spec.executor == "slurm") if spec.gpus_per_task is None else spec.gpus_per_task


def _is_confined(given: int) -> bool:
    """Whether no more of the node's GPUs can be used from here than were given; also where none shows a file.

    Access to a device that the job's control group does not have is refused, to root as well.
    """
    files = [path for path in _DEVICES.glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()]
    return sum(os.access(path, os.R_OK | os.W_OK) for path in files) <= given


def _given() -> tuple[list[str], str]:
    """The GPUs that the scheduler gave this task, and whose words these are."""
    if os.environ.get("SUBMITIT_EXECUTOR") == "workstation":
        return _listed("WANDB_SUBMIT_GPUS"), "the local executor"
    return _slurms(), "Slurm"


def _slurms() -> list[str]:
    return _listed("SLURM_STEP_GPUS") or _listed("SLURM_JOB_GPUS")


def _listed(variable: str) -> list[str]:
    return entries(os.environ.get(variable, ""))
