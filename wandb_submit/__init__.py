"""Run a Weights & Biases sweep in parallel with one command, on a workstation or a Slurm cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wandb_submit.api import Submission, attach, submit

from wandb_submit.errors import WandbSubmitError

__version__ = "0.1.0"
__all__ = ["Submission", "WandbSubmitError", "__version__", "attach", "submit"]


def __getattr__(name: str) -> object:
    # Lazy, so that `wandb-submit --help` and the agents load neither submitit nor wandb.
    if name in ("Submission", "attach", "submit"):
        from wandb_submit import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
