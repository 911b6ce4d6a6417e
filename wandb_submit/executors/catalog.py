"""Which executors there are, and which one `auto` means here."""

from __future__ import annotations

import os
import shutil

from wandb_submit.devices import on_allocated_node
from wandb_submit.errors import ConfigError, RefusedError
from wandb_submit.executors.base import Executor

NAMES = ("slurm", "local")


def pick(name: str) -> str:
    """Turns `auto`, or a name, into an executor's name.

    `auto` is Slurm where there is an `sbatch` and we are not inside one of its jobs, else this machine.

    Raises:
        ConfigError: if there is none of that name.
        RefusedError: if it would be this machine, but the shell's allocation is elsewhere.
    """
    if name == "auto":
        return "slurm" if shutil.which("sbatch") and not on_allocated_node(os.environ) else "local"
    if name not in NAMES:
        raise ConfigError(f"--executor {name!r} is not one of auto, {', '.join(NAMES)}")
    if name == "local" and "SLURM_JOB_ID" in os.environ and not on_allocated_node(os.environ):
        raise RefusedError(
            f"this shell has the allocation of Slurm job {os.environ['SLURM_JOB_ID']}, but is not on its node: "
            "--executor local goes there with `srun` before the command, or with `srun --pty bash` before that"
        )
    return name


def load_executor(name: str) -> Executor:
    """Makes an executor; imports submitit only now.

    Raises:
        RefusedError: if it cannot work on this machine.
    """
    if name == "slurm":
        from wandb_submit.executors.slurm.executor import SlurmExecutor

        return SlurmExecutor()
    from wandb_submit.executors.local.executor import LocalExecutor

    return LocalExecutor()
