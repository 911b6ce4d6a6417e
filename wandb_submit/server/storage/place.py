"""Where a server keeps its data, and whether that is still what it was when the server began.

Files that somebody deletes, moves or replaces stay open: what is written to them is lost with the process, and nothing
says so. Only their names tell.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

from wandb_submit.server.control.lock import FILE as LOCK
from wandb_submit.server.control.settings import DATABASE

_KEPT = ("", LOCK, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")
# These are made when they are needed, and may be links to another file system.
_FOLDERS = ("files", "artifacts")
# It has the page count and SQLite's own counters of changes (https://www.sqlite.org/fileformat.html).
_HEADER_BYTES = 100
# Where the log's index has the fields of `_Copies` (https://www.sqlite.org/walformat.html, 2).
_SALTS, _COPIED, _TO_BE_COPIED = slice(32, 40), slice(96, 100), slice(128, 132)
_INDEX_BYTES = 136
_REMEDY = "Put the data back, or restore a backup, and start the server again"


class GoneError(sqlite3.OperationalError):
    """The data is not where it was: nothing that is written now would be found again."""


class _Copies(NamedTuple):
    """How far SQLite has copied the log into the database file.

    Attributes:
        salts: tell this log from the ones before it.
        copied: how many of its frames have been copied.
        to_be_copied: how many will have been, once the last copy that began ends.
    """

    salts: bytes
    copied: bytes
    to_be_copied: bytes


class Place:
    """A data folder with an open database."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        # As texts: to join paths takes longer than to look.
        self._folder = str(data_dir)
        self._folders = [str(data_dir / name) for name in _FOLDERS]
        self._known = {path: _identity(path) for path in (str(data_dir / name) for name in _KEPT)}
        # Never closed: the kernel would give back SQLite's locks on the files with them
        # (https://www.sqlite.org/howtocorrupt.html, 2.2).
        self._database = os.open(data_dir / DATABASE, os.O_RDONLY)
        self._index = os.open(data_dir / f"{DATABASE}-shm", os.O_RDONLY)
        self._copies = self._copies_now()
        self._written = self._fingerprint()
        self._is_copying = False
        # The folder as it was when all was there, and when its entries had last changed.
        self._as_known: tuple[int, int, int] | None = None

    def check(self) -> None:
        """Looks whether all is there, after each commit; it takes a microsecond.

        Raises:
            GoneError: if something was deleted, moved or replaced.
            sqlite3.OperationalError: if that cannot be told now.
        """
        status = _status(self._folder)
        found = None if status is None else (status.st_dev, status.st_ino, status.st_mtime_ns)
        if found is None or found != self._as_known:
            self.check_all()
            self._as_known = found

    def check_all(self) -> None:
        """Looks at each file: a folder's time does not tell a change from one a moment before, nor of a link's end."""
        for folder in self._folders:
            if folder not in self._known and (there := _identity(folder)) is not None:
                self._known[folder] = there
        for path, known in self._known.items():
            if _identity(path) != known:
                raise _gone(path, "deleted, moved or replaced")

    def check_content(self) -> None:
        """Looks whether SQLite wrote what is in the database file: a file that `cp` overwrites keeps its identity.

        SQLite changes the file only when it copies the log into it, and marks the beginning and the end of that in the
        log's index. Other programs that use SQLite may do so, too.

        Raises:
            GoneError: if something else has written to it.
            OSError: if that cannot be told now.
        """
        before, written, after = self._copies_now(), self._fingerprint(), self._copies_now()
        is_ours = self._is_copying or not self._copies == before == after
        if written != self._written and not is_ours:
            self._set_log_aside()
            raise _gone(str(self._data_dir / DATABASE), "overwritten")
        # The marks also differ after a crash, until the next copy.
        self._is_copying = is_ours and before.copied != before.to_be_copied
        # A copy that was made meanwhile may have come after the look at the file.
        self._written, self._copies = written, before

    def _fingerprint(self) -> tuple[int, bytes]:
        return os.fstat(self._database).st_size, os.pread(self._database, _HEADER_BYTES, 0)

    def _copies_now(self) -> _Copies:
        index = os.pread(self._index, _INDEX_BYTES, 0)
        return _Copies(index[_SALTS], index[_COPIED], index[_TO_BE_COPIED])

    def _set_log_aside(self) -> None:
        """Keeps what the server has not yet copied into the file from being mixed with what is in it now."""
        log = self._data_dir / f"{DATABASE}-wal"
        log.rename(log.with_name(f"{log.name}.overwritten"))


def _gone(path: str, what: str) -> GoneError:
    words = f"{path} was {what} while the offline sweep server ran"
    return GoneError(f"{words}: it has stopped, because nothing more could be kept. {_REMEDY}")


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a file from every other one; nothing if it is not there."""
    status = _status(path)
    return None if status is None else (status.st_dev, status.st_ino)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 it is a text
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise sqlite3.OperationalError(f"cannot look at {path}: {error.strerror or error}") from error
