"""Where things are written: the submission's folder, and HOME, whose quota wandb's caches fill."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from wandb_submit.doctor import quota
from wandb_submit.doctor.finding import Finding, Verdict
from wandb_submit.store.paths import home
from wandb_submit.system.files import is_full, try_to_write

_LOW_GB = 2.0
_LOW_FILES = 1000
_GB = 1024**3
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 they are named, not used


def findings(*, slurm: bool) -> Iterator[Finding]:
    """Checks that what is written has a place, and that nodes can see it if there are any."""
    folder = home()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if (trouble := try_to_write(place)) is not None:
        own = "a folder of your own" if not is_full(trouble) else "another folder, or make room there"
        yield Finding(
            topic="submissions",
            words=f"{folder} cannot be written: {trouble.strerror}",
            verdict=Verdict.FAILED,
            remedy=f"submit from {own}, or name a folder in WANDB_SUBMIT_DIR",
        )
    elif slurm and shutil.which("sbatch") and any(place.resolve().is_relative_to(path) for path in _TEMPORARY):
        yield Finding(
            topic="submissions",
            words=f"{folder} is in a folder that every machine has its own of",
            verdict=Verdict.WARNING,
            remedy="on Slurm submit from a file system that the nodes share; --probe looks from a node",
        )
    else:
        yield Finding(topic="submissions", words=f"{folder}, {_free_gb(place):.0f} GB free")
    yield from _temporary()
    yield from _caches()


def _temporary() -> Iterator[Finding]:
    """Where wandb and Python put what they need for a while; a word only if they cannot."""
    folder = Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 as Python's tempfile chooses it
    if (trouble := try_to_write(folder)) is not None:
        yield Finding(
            topic="temporary files",
            words=f"{folder} cannot be written: {trouble.strerror}",
            verdict=Verdict.FAILED,
            remedy="make room there, or name another folder in TMPDIR",
        )


def _caches() -> Iterator[Finding]:
    own = Path.home()
    if not own.exists():
        yield Finding(
            topic="HOME",
            words=f"{own} is not there",
            verdict=Verdict.WARNING,
            remedy="set HOME, or let wandb write elsewhere: --template scratch-dirs",
        )
        return
    trouble = try_to_write(own)
    if trouble is not None and is_full(trouble):
        yield Finding(
            topic="HOME",
            words=f"{own} cannot be written: {trouble.strerror}",
            verdict=Verdict.FAILED,
            remedy="make room there; --template scratch-dirs puts wandb's caches and artifacts elsewhere",
        )
        return
    status, allowed = os.statvfs(own), quota.of(own)
    free_gb = [_free_gb(own)]
    free_files = [status.f_favail] if status.f_files else []  # some file systems do not count them
    if allowed is not None:
        free_gb += [] if allowed.free_gb is None else [allowed.free_gb]
        free_files += [] if allowed.free_files is None else [allowed.free_files]
    few = min(free_gb) < _LOW_GB or min(free_files, default=_LOW_FILES) < _LOW_FILES
    used = "" if allowed is None else f"quota: {allowed.words}, "
    yield Finding(
        topic="HOME",
        words=f"{own}, {used}{min(free_gb):.1f} GB free for what wandb caches",
        verdict=Verdict.WARNING if few else Verdict.OK,
        remedy="--template scratch-dirs puts wandb's caches and artifacts elsewhere" if few else "",
    )


def _free_gb(path: Path) -> float:
    """What may still be written, as far as the file system itself tells."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize / _GB
