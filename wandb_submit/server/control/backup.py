"""A copy of everything that a server keeps, made while it runs, which another server can start on."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from wandb_submit.errors import NotFoundError, RefusedError
from wandb_submit.server.control import lifecycle
from wandb_submit.server.control.log import FILE as LOG
from wandb_submit.server.control.settings import DATABASE

# What is about the running server alone, and what is not there as a whole yet.
_NOT_COPIED = {DATABASE, "server.json", "server.lock", "start.lock", "uploads", f"{DATABASE}-wal", f"{DATABASE}-shm"}


def back_up(data_dir: Path, destination: Path) -> int:
    """Copies a server's folder to a new one; returns how many bytes that are.

    The database is copied as it is at one moment, whatever is written meanwhile and without holding up anybody.
    The files are copied after it, so that what it names is there; a file that is replaced meanwhile is copied as
    the old one or the new one, never as a part. The key goes with it: what knew the server knows the copy.

    Args:
        data_dir: the server's folder.
        destination: a folder that does not exist.

    Raises:
        NotFoundError: if no server has ever kept its data there.
        RefusedError: if the destination exists, or cannot be written to or is full; then nothing is left there.
    """
    data_dir, destination = data_dir.absolute(), destination.absolute()
    _check(data_dir, destination)
    draft = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        size = _copy_database(data_dir / DATABASE, draft / DATABASE)
        for path in sorted(data_dir.iterdir()):
            if path.name not in _NOT_COPIED and not path.name.startswith((".", LOG)):
                # A person may have put a link in the place of a folder, to have it on a larger disk.
                size += _copy(path.resolve(), draft / path.name)
        if destination.exists():  # since we looked; rename would replace an empty folder
            raise RefusedError(_exists(destination))
        draft.rename(destination)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise RefusedError(f"cannot copy {data_dir} to {destination}: {reason}; nothing was left there") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return size


def _check(data_dir: Path, destination: Path) -> None:
    if not (data_dir / DATABASE).is_file():
        raise NotFoundError(f"{data_dir} holds no offline sweep server's data: name its folder with --data")
    if destination.exists() or destination.is_symlink():
        raise RefusedError(_exists(destination))
    if data_dir in destination.resolve().parents:
        raise RefusedError(f"{destination} lies in the server's own folder: name a place outside of {data_dir}")
    running = lifecycle.status(data_dir)
    if running is not None and running.machine != socket.gethostname():
        # Two machines that have the same database open do not see each other's changes to come.
        raise RefusedError(f"the offline sweep server of {data_dir} runs on {running.machine}: make the backup there")


def _exists(destination: Path) -> str:
    return f"{destination} exists already: a backup goes into a new folder"


def _copy_database(source: Path, target: Path) -> int:
    """Copies the database in one step, which sees one moment of it; writers go on in the write-ahead log."""
    target.touch(mode=0o600)
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True, timeout=30)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
        # A copy of a database with a write-ahead log wants one, too, as soon as somebody looks at it.
        new.execute("PRAGMA journal_mode=DELETE")
    return target.stat().st_size


def _copy(source: Path, target: Path) -> int:
    """Copies a file or a folder with all that is in it; what is deleted meanwhile is left out."""
    if source.is_symlink():
        return 0
    if source.is_dir():
        target.mkdir(mode=0o700)
        return sum(_copy(inner, target / inner.name) for inner in _content(source))
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source, target)
        target.chmod(0o600)
        return target.stat().st_size
    return 0


def _content(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
