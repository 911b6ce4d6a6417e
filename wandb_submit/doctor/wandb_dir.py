"""`WANDB_DIR`: the folder that wandb's files and the runs' configurations go below."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from wandb_submit.doctor.finding import Finding, Verdict
from wandb_submit.store.paths import current_folder
from wandb_submit.system.files import is_full, try_to_write

REMEDY = "set WANDB_DIR to a folder that can be written to where the runs are"


def folder() -> Path:
    """The folder that `WANDB_DIR` names, or else the current one, in which runs start."""
    return current_folder() / os.environ.get("WANDB_DIR", "")


def findings() -> Iterator[Finding]:
    """Checks that runs could write there, as far as this machine and this shell can tell."""
    named = os.environ.get("WANDB_DIR")
    below = folder()
    place = next(path for path in (below, *below.parents) if os.access(path, os.F_OK))
    words = str(below) if named else f"not set: wandb's files and runs' configurations go below {below}"
    if not place.is_dir():
        yield _failed(f"{below} cannot be used: {place} is no folder")
    elif (trouble := try_to_write(place)) is not None and is_full(trouble):
        yield _failed(f"{words}, which cannot be written: {trouble.strerror}", remedy=f"make room there, or {REMEDY}")
    elif trouble is None and os.access(place, os.W_OK | os.X_OK):
        yield Finding(topic="WANDB_DIR", words=words if place == below else f"{words}, which the first run makes")
    elif place == below:
        yield _failed(f"{words}, which cannot be written")
    else:  # it may be the nodes' own
        yield _failed(f"{words}, which is not there, or not for you, and cannot be made in {place}", Verdict.WARNING)


def _failed(words: str, verdict: Verdict = Verdict.FAILED, remedy: str = REMEDY) -> Finding:
    return Finding(topic="WANDB_DIR", words=words, verdict=verdict, remedy=remedy)
