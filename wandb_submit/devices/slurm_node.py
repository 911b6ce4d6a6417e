"""What Slurm tells a process of the devices that its job has on this node."""

from __future__ import annotations

from collections.abc import Mapping


def on_allocated_node(environ: Mapping[str, str]) -> bool:
    """Whether this process is part of a Slurm job; a shell of `salloc` on the login node has a job but is not."""
    return "SLURM_JOB_ID" in environ and "SLURMD_NODENAME" in environ


def jobs_gpus(environ: Mapping[str, str]) -> str | None:
    """The job's GPUs by their numbers, empty for a job without any; `None` outside a job."""
    if not on_allocated_node(environ):
        return None
    return environ.get("SLURM_STEP_GPUS") or environ.get("SLURM_JOB_GPUS") or ""
