"""Names of uploaded files, which become paths below the data folder and nowhere else."""

from __future__ import annotations

from pathlib import Path

from wandb_submit.server.projects import checked_name
from wandb_submit.server.refusals import Refusal

_MAX_NAME = 1024
# What file systems allow for one part of a path.
_MAX_PART = 255


def checked_file_name(name: str) -> str:
    """A file's name as the client gave it, with `/` between its parts.

    Raises:
        Refusal: if it could lead out of the run's folder or cannot be a path.
    """
    parts = name.split("/")
    if (
        len(name) > _MAX_NAME
        or any(part in ("", ".", "..") or len(part.encode()) > _MAX_PART for part in parts)
        or any(letter == "\\" or ord(letter) < 32 for letter in name)
    ):
        raise Refusal(f"{name[:80]!r} cannot be the name of a run's file")
    return name


def run_folder(data_dir: Path, entity: str, project: str, run: str) -> Path:
    """Where a run's files are."""
    return (
        data_dir
        / "files"
        / checked_name("an entity", entity)
        / checked_name("a project", project)
        / checked_name("a run", run)
    )
