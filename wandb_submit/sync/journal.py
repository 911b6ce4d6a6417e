"""What has been sent of one sweep to one place, kept so that nothing is sent twice.

A SQLite file of its own in the server's data folder: `sync/SWEEP-HASH.sqlite3`, one per place. Every entry is made
after the target has taken what it tells of, and survives the death of the process at any moment. Should it be lost
or be one step behind, the target is asked, and sending the same lines again replaces them.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wandb_submit.errors import RefusedError
from wandb_submit.sync.place import Place
from wandb_submit.system.files import try_lock, unwritable

_VERSION = 1
_TABLES = """
CREATE TABLE sweep (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (run INTEGER PRIMARY KEY, fingerprint TEXT);
CREATE TABLE streams (
  run INTEGER NOT NULL,
  file TEXT NOT NULL,
  next INTEGER NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (run, file)
) WITHOUT ROWID;
CREATE TABLE files (run INTEGER NOT NULL, name TEXT NOT NULL, md5 TEXT NOT NULL, PRIMARY KEY (run, name)) WITHOUT ROWID;
"""


class JournalError(RefusedError):
    """The journal cannot be written, so that going on would send things twice."""


class Journal:
    """The record of one sweep's way to one place; any thread may use it. `open` makes one."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        self._lock = threading.Lock()

    def sweep(self, name: str) -> str | None:
        """What is noted about the sweep under a name: its `id` there, its `state`."""
        rows = self._do("SELECT value FROM sweep WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    def note_sweep(self, name: str, value: str) -> None:
        """Notes something about the sweep, and waits for the disk: of a sweep there must not be two."""
        with self._lock, _translated(self.path):
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("INSERT OR REPLACE INTO sweep VALUES (?, ?)", (name, value))
            self._connection.execute("PRAGMA synchronous=NORMAL")

    def fingerprint(self, run: int) -> str | None:
        """The fingerprint that the run had when it was last sent as a whole."""
        rows = self._do("SELECT fingerprint FROM runs WHERE run = ?", run)
        return rows[0]["fingerprint"] if rows else None

    def knows(self, run: int) -> bool:
        """Whether the run there is ours, be it complete or not."""
        return bool(self._do("SELECT 1 FROM runs WHERE run = ?", run))

    def note_begun(self, run: int, files: Mapping[str, str]) -> None:
        """Notes that the run is (about to be) there, and which files (name to MD5) already are."""
        for name, md5 in files.items():
            self.note_file(run, name, md5)
        self._do("INSERT OR IGNORE INTO runs VALUES (?, NULL)", run)

    def note_complete(self, run: int, fingerprint: str) -> None:
        """Notes that all of a run is there."""
        self._do("INSERT OR REPLACE INTO runs VALUES (?, ?)", run, fingerprint)

    def stream(self, run: int, file: str) -> tuple[int, str]:
        """The number of the first line that has not been sent, and the digest of those that have."""
        rows = self._do("SELECT next, digest FROM streams WHERE run = ? AND file = ?", run, file)
        return (rows[0][0], rows[0][1]) if rows else (0, "")

    def note_stream(self, run: int, file: str, sent: int, digest: str) -> None:
        """Notes that the lines below number `sent` are there."""
        self._do("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?)", run, file, sent, digest)

    def files(self, run: int) -> dict[str, str]:
        """The files of a run that are there, with their MD5."""
        return {row[0]: row[1] for row in self._do("SELECT name, md5 FROM files WHERE run = ?", run)}

    def note_file(self, run: int, name: str, md5: str) -> None:
        """Notes that a file is there."""
        self._do("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", run, name, md5)

    def _do(self, sql: str, *parameters: object) -> list[sqlite3.Row]:
        with self._lock, _translated(self.path):
            return self._connection.execute(sql, parameters).fetchall()


@contextmanager
def open_journal(data_dir: Path, sweep_id: str, place: Place) -> Iterator[Journal]:
    """Opens the journal of a sweep's way to a place, which no other sync may have open.

    Raises:
        RefusedError: if another sync has it.
        ConfigError: if it cannot be kept there.
    """
    path = _path(data_dir, sweep_id, place)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        remedy = "the record of what was sent is kept there: copy the data folder, and name the copy with --data"
        raise unwritable(path.parent, error, remedy) from error
    try:
        if not try_lock(descriptor):
            raise RefusedError(f"another sync of {sweep_id} to {place} is under way")
        with _open(path) as journal:
            yield journal
    finally:
        os.close(descriptor)


@contextmanager
def look_at_journal(data_dir: Path, sweep_id: str, place: Place) -> Iterator[Journal]:
    """The journal as it is, for reading; where nothing has been sent yet none is made."""
    path = _path(data_dir, sweep_id, place)
    with _open(path if path.exists() else Path(":memory:")) as journal:
        yield journal


def _path(data_dir: Path, sweep_id: str, place: Place) -> Path:
    text = f"{place.base_url}\n{place.entity}\n{place.project}"
    return data_dir / "sync" / f"{sweep_id}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.sqlite3"


@contextmanager
def _open(path: Path) -> Iterator[Journal]:
    with _translated(path):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        with _translated(path):
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={_VERSION}; COMMIT;")
        if version not in (0, _VERSION):
            raise RefusedError(f"{path} was written by another version of wandb-submit: use that one")
        yield Journal(connection, path)
    finally:
        connection.close()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise JournalError(
            f"cannot keep the record of what was sent, {path}: {error}. If it is damaged, remove it and sync again: "
            "what is there already will be found"
        ) from error
