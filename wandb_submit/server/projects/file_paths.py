"""Names of uploaded files, which become paths below the data folder and nowhere else."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from wandb_submit.server.projects.projects import checked_name
from wandb_submit.server.storage.refusals import Refusal

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
        or any(part in ("", ".", "..") or len(part.encode(errors="surrogatepass")) > _MAX_PART for part in parts)
        or any(letter == "\\" or ord(letter) < 32 or "\ud800" <= letter <= "\udfff" for letter in name)
    ):
        raise Refusal(f"{name[:80]!r} cannot be the name of a run's file")
    return name


def new_file_name(name: str) -> str:
    """The name of a file that comes in, as `checked_file_name` takes it.

    Raises:
        Refusal: if it also holds the replacement character, which clients put in the place of bytes that are not
            UTF-8: of two names one would be left, and of two files one.
    """
    if "\ufffd" in name:
        raise Refusal(f"{name[:80]!r} cannot be the name of a file: it was not UTF-8. Rename the file")
    return checked_file_name(name)


def same_place(name: str, others: Iterable[str]) -> str | None:
    """The one of some names that is the same file's where a file system ignores case or Unicode's normal forms."""
    folded = _folded(name)
    return next((other for other in others if other != name and _folded(other) == folded), None)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def run_folder(data_dir: Path, entity: str, project: str, run: str) -> Path:
    """Where a run's files are."""
    return (
        data_dir
        / "files"
        / checked_name("an entity", entity)
        / checked_name("a project", project)
        / checked_name("a run", run)
    )
