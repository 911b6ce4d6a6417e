"""What agents write down: one JSON object per line in `events.jsonl`, schema version 1.

Every line has `v` (the schema's version), `t` (seconds since the epoch) and `event` (the name of one of the
classes below, in snake case); the class's fields follow. A reader skips events and fields that it does not
know, and a last line that was torn by a crash. From these lines alone one can tell which device ran which
run when, how each run ended, and how long each device stood idle:

- an agent holds its devices from `agent_started` to `agent_stopped`; a requeued task begins anew with another
  `agent_started` in the same file, and held nothing in between;
- a run is on them from `run_started` to `run_finished`, and in the rest of the time they are idle: before the first
  run, between two, and after the last (`idle_s` is the agent's own measure of it before each run);
- an `agent_stopped` that is missing means that the agent was killed, at a time that the scheduler knows; one without
  `agent_started` says why a task did not begin its work.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

VERSION = 1

_LOG = logging.getLogger("wandb_submit.agent")


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentStarted:
    """An agent's process is there, with its devices.

    Attributes:
        gpus: `CUDA_VISIBLE_DEVICES` as the agent's runs see it, or AMD's or Intel's variable; `None` if it is not set.
        node_gpus: the node's own numbers of these GPUs, in the same order, where Slurm tells them: inside a job
            that sees no other GPUs, that variable counts from 0 on.
        cpus: the cores that the task may run on.
        job_id: the scheduler's id of the array task, `ARRAY_TASK` on Slurm.
        restarts: how often the scheduler has started this task before.
    """

    name: ClassVar[str] = "agent_started"
    task: int
    host: str
    pid: int
    job_id: str
    gpus: str | None
    cpus: list[int]
    restarts: int = 0
    node_gpus: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRegistered:
    """The server knows the agent, by this id."""

    name: ClassVar[str] = "agent_registered"
    agent_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    """A run's process has been started.

    Attributes:
        idle_s: how long the agent had stood without a run before.
        resumed: whether the server handed out a run that had been preempted.
        warm: whether it was forked from a process that had imported its modules.
    """

    name: ClassVar[str] = "run_started"
    run: str
    pid: int
    command: list[str]
    log: str
    idle_s: float
    resumed: bool = False
    warm: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFinished:
    """A run's process has ended.

    Attributes:
        exit_code: its exit status; negative is the number of the signal that killed it.
        reason: why it was stopped, where it did not end by itself.
        out_of_memory: whether it failed, and the kernel killed something of the task meanwhile for want of memory.
    """

    name: ClassVar[str] = "run_finished"
    run: str
    exit_code: int
    seconds: float
    reason: str | None = None
    out_of_memory: bool = False

    @property
    def failed(self) -> bool:
        """Whether it ended by itself, and badly."""
        return self.exit_code != 0 and self.reason is None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAbandoned:
    """A run that the server handed out was not started; the server will show it as failed.

    Attributes:
        failed: whether it could not be started; otherwise the agent was stopping when it came.
    """

    name: ClassVar[str] = "run_abandoned"
    run: str
    reason: str
    failed: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class ColdStarts:
    """The agent's runs were to start warm and cannot: from now on each starts by itself."""

    name: ClassVar[str] = "cold_starts"
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLost:
    """The server does not answer; the agent keeps its run and tries again."""

    name: ClassVar[str] = "server_lost"
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerBack:
    """The server answers again, after so many seconds."""

    name: ClassVar[str] = "server_back"
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentStopped:
    """The agent has ended, and why; `ok` is false where somebody should look.

    Attributes:
        runs: how many runs it finished since it started.
    """

    name: ClassVar[str] = "agent_stopped"
    reason: str
    ok: bool
    runs: int


Event: TypeAlias = (
    AgentStarted
    | AgentRegistered
    | RunStarted
    | RunFinished
    | RunAbandoned
    | ColdStarts
    | ServerLost
    | ServerBack
    | AgentStopped
)
_KINDS: dict[str, type[Event]] = {
    kind.name: kind
    for kind in (
        AgentStarted,
        AgentRegistered,
        RunStarted,
        RunFinished,
        RunAbandoned,
        ColdStarts,
        ServerLost,
        ServerBack,
        AgentStopped,
    )
}


class EventWriter:
    """Appends events to one agent's file.

    The file is a record, not a condition: where it cannot be written (a full disk), the agent says so in its
    log and its runs go on. Each event is one `write` of one line in append mode, so that a reader on the same
    machine never sees half of one, and a crash can tear the last line at most. A requeued task goes on in the
    same file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        size = os.fstat(self._descriptor).st_size
        # Whether the last line was torn, by a crash or a full disk; the next event then begins with a new line.
        self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def write(self, event: Event, *, at: float | None = None) -> None:
        """Appends one event, stamped with when it happened, in seconds since the epoch; `None` is now."""
        happened_at = round(time.time() if at is None else at, 3)
        record = {"v": VERSION, "t": happened_at, "event": event.name, **dataclasses.asdict(event)}
        line = (b"\n" if self._torn else b"") + json.dumps(record).encode() + b"\n"
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            _LOG.warning("cannot write the event %s: %s", record, error)
            return
        self._torn = written < len(line)
        if self._torn:
            _LOG.warning("could write a part only of the event %s: the disk is full", record)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Stamped:
    """An event with the time that it was written at, in seconds since the epoch."""

    t: float
    event: Event


class EventReader:
    """Reads one agent's file, and on later calls what has been added since."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> Iterator[Stamped]:
        """Yields the whole events that have not been yielded before; none if there is no file yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            stamped = _parse(line)
            if stamped is not None:
                yield stamped


def _parse(line: bytes) -> Stamped | None:
    """Reads one line; `None` for one that was torn or that a newer version wrote."""
    try:
        record: dict[str, Any] = json.loads(line)
        kind = _KINDS[record["event"]]
        known = {field.name for field in dataclasses.fields(kind)}
        return Stamped(float(record["t"]), kind(**{key: value for key, value in record.items() if key in known}))
    except (ValueError, KeyError, TypeError):
        return None


def agent_name(task: int, agent: int = 0) -> str:
    """The name of an agent: its array task, and its place there where a task has several."""
    return f"{task}" if agent == 0 else f"{task}.{agent}"


def sort_key(name: str) -> tuple[int, ...]:
    """Sorts agent names by number."""
    return tuple(int(part) for part in re.findall(r"\d+", name))
