"""Which executors there are, and which one `auto` means here."""

from __future__ import annotations

import os
import shutil

from wandb_submit.errors import ConfigError
from wandb_submit.executors.base import Executor

NAMES = ("slurm", "local")


def pick(name: str) -> str:
    """Turns `auto`, or a name, into an executor's name.

    `auto` is Slurm where there is an `sbatch` and we are not inside one of its jobs, else this machine.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name == "auto":
        return "slurm" if shutil.which("sbatch") and "SLURM_JOB_ID" not in os.environ else "local"
    if name not in NAMES:
        raise ConfigError(f"--executor {name!r} is not one of auto, {', '.join(NAMES)}")
    return name


def load_executor(name: str) -> Executor:
    """Makes an executor; imports submitit only now.

    Raises:
        RefusedError: if it cannot work on this machine.
    """
    if name == "slurm":
        from wandb_submit.executors.slurm import SlurmExecutor

        return SlurmExecutor()
    from wandb_submit.executors.local.executor import LocalExecutor

    return LocalExecutor()
