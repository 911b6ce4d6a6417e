"""Run a Weights & Biases sweep in parallel with one command, on a workstation or a Slurm cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wandb_submit.submission.submit import Submission, attach, submit

from wandb_submit._version import __version__
from wandb_submit.errors import WandbSubmitError

__all__ = ["Submission", "WandbSubmitError", "__version__", "attach", "submit"]


def __getattr__(name: str) -> object:
    # Lazy, so that `wandb-submit --help` and the agents load neither submitit nor wandb.
    if name in ("Submission", "attach", "submit"):
        from wandb_submit import notebook
        from wandb_submit.submission import submit as api

        notebook.register()
        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
