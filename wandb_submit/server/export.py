"""What an offline server's data folder holds, read without the server and without changing anything.

The folder is enough: the server may run and take more runs meanwhile, or the folder may be a copy, taken from a
cluster to a machine with Internet. A reader never holds up the server, which writes ahead (WAL).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from wandb_submit.errors import NotFoundError, RefusedError
from wandb_submit.server.control.lock import is_held
from wandb_submit.server.control.settings import Settings
from wandb_submit.server.projects.file_paths import run_folder
from wandb_submit.server.runs.state import ENDED, state_without_exit
from wandb_submit.server.storage.layout import differences
from wandb_submit.server.storage.tables import STEPS

# W&B's names for what a run streams.
HISTORY, EVENTS, CONSOLE, SUMMARY = "wandb-history.jsonl", "wandb-events.jsonl", "output.log", "wandb-summary.json"
# A page is read at once, so that no transaction stays open while the network is slow.
_PAGE = 2000
_LINES = {
    HISTORY: "SELECT number, content FROM history WHERE run = ? AND stream = 'history' AND number >= ?",
    EVENTS: "SELECT number, content FROM history WHERE run = ? AND stream = 'events' AND number >= ?",
    CONSOLE: "SELECT number, line FROM console WHERE run = ? AND number >= ?",
}
_SWEEP_ENDED = ("FINISHED", "CANCELED")


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineSweep:
    """A sweep as the data folder has it."""

    number: int
    entity: str
    project: str
    id: str
    config: str
    display_name: str | None
    description: str | None
    state: str

    @property
    def path(self) -> str:
        """`entity/project/id`."""
        return f"{self.entity}/{self.project}/{self.id}"

    @property
    def is_over(self) -> bool:
        """Whether nobody gets another run of it."""
        return self.state in _SWEEP_ENDED


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineFile:
    """A file that a run has uploaded; `md5` is base64, as W&B's API gives it."""

    name: str
    path: Path
    size: int
    md5: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineRun:
    """A run as the data folder has it, without its lines.

    Attributes:
        number: what the folder knows it by; `name` is what W&B calls its id.
        state: W&B's word; a run that has been silent for long while no server watched has crashed.
        config, summary: JSON objects.
        fingerprint: differs from that of an earlier look if anything of the run has changed since, also its lines.
    """

    number: int
    name: str
    state: str
    exit_code: int | None
    display_name: str
    description: str | None
    notes: str | None
    tags: tuple[str, ...]
    group: str | None
    job_type: str | None
    commit: str | None
    repo: str | None
    program: str | None
    host: str | None
    config: str
    summary: str
    files: tuple[OfflineFile, ...]
    fingerprint: str

    @property
    def is_over(self) -> bool:
        """Whether the run has ended; a preempted one waits to be resumed."""
        return self.state in ENDED

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return sum(file.size for file in self.files)


class Source:
    """One data folder, open for reading; any thread may use it.

    Raises:
        NotFoundError: if no server has kept its data there.
        RefusedError: if the data cannot be read from here.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self._path = self.data_dir / "server.sqlite3"
        if not self._path.exists():
            raise NotFoundError(f"{data_dir} is not the data folder of an offline server: name it with --data")
        self._watched = is_held(self.data_dir)
        if self._watched:
            _check_machine(self.data_dir)
        self._local = threading.local()
        version = int(self._rows("PRAGMA user_version")[0][0])
        if version > len(STEPS):
            raise RefusedError(f"{self._path} was written by a newer wandb-submit: upgrade this one")
        if version < len(STEPS):
            raise RefusedError(
                f"{self._path} was written by an older wandb-submit: bring it up to date once with "
                f"`wandb-submit server start --data {data_dir}` and `wandb-submit server stop --data {data_dir}`"
            )
        try:
            wrong = differences(self._connection(), version)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        if wrong:
            raise RefusedError(f"{self._path} does not have the tables of version {version}, which it names: {wrong}")

    def api_key(self) -> str | None:
        """The key of the folder's server, by which it is known; `None` if there is none to be read."""
        try:
            return (self.data_dir / "api_key").read_text().strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def sweep(self, sweep_id: str, *, entity: str | None = None, project: str | None = None) -> OfflineSweep:
        """The sweep of that id.

        Raises:
            NotFoundError: if there is none; it names those that there are.
        """
        rows = self._rows(
            "SELECT sweeps.*, projects.entity AS entity, projects.name AS project_name FROM sweeps"
            " JOIN projects ON projects.id = sweeps.project ORDER BY number DESC"
        )
        for row in rows:
            if row["id"] == sweep_id and entity in (None, row["entity"]) and project in (None, row["project_name"]):
                return OfflineSweep(
                    number=row["number"],
                    entity=row["entity"],
                    project=row["project_name"],
                    id=row["id"],
                    config=row["config"],
                    display_name=row["display_name"],
                    description=row["description"],
                    state=row["state"],
                )
        wanted = "/".join(part for part in (entity, project, sweep_id) if part)
        known = ", ".join(f"{row['entity']}/{row['project_name']}/{row['id']}" for row in rows[:10]) or "none"
        raise NotFoundError(f"no sweep {wanted} in {self.data_dir}; the newest there: {known}")

    def runs_of(self, sweep: OfflineSweep) -> list[int]:
        """The numbers of a sweep's runs, oldest first."""
        return [row[0] for row in self._rows("SELECT id FROM runs WHERE sweep = ? ORDER BY id", (sweep.number,))]

    def artifacts_of(self, sweep: OfflineSweep) -> int:
        """How many artifacts a sweep's runs have logged."""
        sql = "SELECT COUNT(*) FROM artifacts JOIN runs ON runs.id = artifacts.run WHERE runs.sweep = ?"
        return int(self._rows(f"{sql} AND artifacts.state = 'COMMITTED'", (sweep.number,))[0][0])

    def run(self, number: int) -> OfflineRun:
        """One run as it is now.

        Raises:
            NotFoundError: if it has been deleted.
        """
        rows = self._rows(
            "SELECT runs.*, projects.entity AS entity, projects.name AS project_name FROM runs"
            " JOIN projects ON projects.id = runs.project WHERE runs.id = ?",
            (number,),
        )
        if not rows:
            raise NotFoundError("it was deleted meanwhile")
        row = rows[0]
        found = self._rows("SELECT name, size, md5 FROM files WHERE run = ? ORDER BY name", (number,))
        folder = run_folder(self.data_dir, row["entity"], row["project_name"], row["name"])
        files = [OfflineFile(name=f["name"], path=folder / f["name"], size=f["size"], md5=f["md5"]) for f in found]
        state = self._state(row)
        # Every line that a run sends moves its `heartbeat_at`.
        seen = [state, *row, *(value for file in found for value in file)]
        return OfflineRun(
            number=number,
            name=row["name"],
            state=state,
            exit_code=row["exit_code"],
            display_name=row["display_name"],
            description=row["description"],
            notes=row["notes"],
            tags=tuple(json.loads(row["tags"])),
            group=row["run_group"],
            job_type=row["job_type"],
            commit=row["git_commit"],
            repo=row["git_remote"],
            program=row["program"],
            host=row["host"],
            config=row["config"],
            summary=row["summary"],
            files=tuple(files),
            fingerprint=hashlib.sha256(repr(seen).encode()).hexdigest(),
        )

    def lines(self, run: OfflineRun, file: str, first: int = 0) -> Iterator[tuple[int, str]]:
        """A run's lines of `HISTORY`, `EVENTS` or `CONSOLE` with their numbers, from number `first` on."""
        while True:
            page = self._rows(f"{_LINES[file]} ORDER BY number LIMIT {_PAGE}", (run.number, first))
            yield from ((row[0], row[1]) for row in page)
            if len(page) < _PAGE:
                return
            first = page[-1][0] + 1

    def _state(self, row: sqlite3.Row) -> str:
        silent = time.time() - row["heartbeat_at"] > Settings(data_dir=self.data_dir).crash_after_s
        if row["state"] in ("pending", "running") and silent and not self._watched:
            return state_without_exit(row)
        return str(row["state"])

    def _rows(self, sql: str, parameters: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        try:
            return self._connection().execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _open(self._path)
        return connection

    def _unreadable(self, error: sqlite3.Error) -> RefusedError:
        return RefusedError(
            f"cannot read {self._path}: {error}; if you may not write in that folder, copy it to where you may"
        )


def _open(path: Path) -> sqlite3.Connection:
    log = path.with_name(f"{path.name}-wal")
    # SQLite keeps two files beside a database in WAL mode, and makes them to read it, too. On a medium that cannot
    # be written nobody else changes the database either, and without a log it is complete in itself.
    fixed = not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)
    options = "mode=ro&immutable=1" if fixed else "mode=ro"
    connection = sqlite3.connect(f"file:{quote(str(path))}?{options}", uri=True, isolation_level=None, timeout=30)
    connection.row_factory = sqlite3.Row
    return connection


def _check_machine(data_dir: Path) -> None:
    """The log of a database in use is shared through memory, which ends at the machine."""
    try:
        machine = str(json.loads((data_dir / "server.json").read_text())["hostname"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # it is just starting or ending
    if machine != socket.gethostname():
        raise RefusedError(
            f"the offline server of {data_dir} runs on {machine}: sync from there, or stop it, or sync a copy"
        )
