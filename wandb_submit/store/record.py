"""A submission's folder: what was asked for, which jobs it became, and what its agents wrote down."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from wandb_submit.errors import NotFoundError
from wandb_submit.spec import Endpoint, SweepRef
from wandb_submit.store import paths as layout
from wandb_submit.store.events import (
    AgentRegistered,
    AgentStarted,
    AgentStopped,
    ColdStarts,
    EventReader,
    RunAbandoned,
    RunFinished,
    RunStarted,
    ServerBack,
    ServerLost,
    Stamped,
    sort_key,
)
from wandb_submit.store.halt import TIME_LIMIT
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.system.files import keep_out_of_git, unwritable, write_private

VERSION = 1

# Without the letters and digits that people mistake for one another.
_ID_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionRecord:
    """What `submission.json` holds.

    Attributes:
        jobs: the scheduler's ids of the array tasks, in the order of the array.
        resources: what each task was given, for people to read.
        runs_left: how many runs the sweep had still to hand out then; `None` if that has no bound.
        runs_total: how many the sweep has in all; `None` if that is not known.
        agent: whose agents its tasks run; of the runs of W&B's own, `wandb`, nothing is on record.
    """

    id: str
    created: str
    executor: str
    sweep: SweepRef
    endpoint: Endpoint
    workdir: str
    array: str
    jobs: tuple[str, ...]
    resources: Mapping[str, Any]
    runs_left: int | None = None
    runs_total: int | None = None
    agent: str = "native"
    version: int = VERSION


def new_id() -> str:
    """A short random id for a submission."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(6))


ELSEWHERE = "submit from a folder that you may write to, or name one in WANDB_SUBMIT_DIR"


def create_folder(home: Path, submission_id: str) -> SubmissionPaths:
    """Makes a submission's folder, readable by its owner alone.

    Raises:
        ConfigError: if it cannot be made.
    """
    paths = SubmissionPaths(home / submission_id)
    try:
        home.mkdir(parents=True, exist_ok=True)
        keep_out_of_git(home)
        paths.folder.mkdir(mode=0o700)
        paths.jobs.mkdir(mode=0o700)
    except OSError as error:
        raise unwritable(paths.folder, error, ELSEWHERE) from error
    return paths


def save(paths: SubmissionPaths, record: SubmissionRecord) -> None:
    """Writes the record, whole or not at all."""
    text = json.dumps(dataclasses.asdict(record), indent=2, default=str) + "\n"
    write_private(paths.submission, text)


def now() -> str:
    """The present moment in UTC, as the records write it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def load(paths: SubmissionPaths) -> SubmissionRecord:
    """Reads a submission's record.

    Raises:
        NotFoundError: if there is none, or it is not readable as one.
    """
    try:
        data = json.loads(paths.submission.read_text())
        if data["version"] > VERSION:
            raise NotFoundError(f"{paths.submission} was written by a newer wandb-submit: upgrade to read it")
        endpoint = data["endpoint"]
        server_dir = endpoint["server_dir"]
        return SubmissionRecord(
            **{
                **data,
                "sweep": SweepRef(**data["sweep"]),
                "endpoint": Endpoint(
                    base_url=endpoint["base_url"], server_dir=Path(server_dir) if server_dir else None
                ),
                "jobs": tuple(data["jobs"]),
            }
        )
    except FileNotFoundError as error:
        raise NotFoundError(f"no submission {paths.id} in {paths.folder.parent}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFoundError(f"cannot read {paths.submission}: {error}") from error


def all_submissions(home: Path | None = None) -> list[SubmissionPaths]:
    """The submissions below a home folder (default: that of the current folder), newest last."""
    folder = layout.home() if home is None else home
    found = [path.parent for path in folder.glob("*/submission.json")]
    # By the record, which is written once; its folder changes with every agent that starts.
    return sorted(map(SubmissionPaths, found), key=lambda paths: paths.submission.stat().st_mtime)


def find(submission_id: str | None, home: Path | None = None) -> SubmissionPaths:
    """Finds a submission by its id or the beginning of it; without one, the newest.

    Raises:
        NotFoundError: if there is none, or several begin so.
    """
    folder = layout.home() if home is None else home
    known = all_submissions(folder)
    if not known:
        raise NotFoundError(f"no submissions in {folder}: go to the folder that you submitted from")
    if submission_id is None:
        return known[-1]
    matching = [paths for paths in known if paths.id.startswith(submission_id)]
    exact = [paths for paths in matching if paths.id == submission_id]
    match exact or matching:
        case [only]:
            return only
        case []:
            recent = ", ".join(paths.id for paths in known[-5:])
            raise NotFoundError(f"no submission {submission_id!r} in {folder}; the newest are: {recent}")
        case several:
            raise NotFoundError(
                f"{submission_id!r} could be {', '.join(paths.id for paths in several)}: type more of it"
            )


@dataclass(kw_only=True, slots=True)
class RunView:
    """What the events tell of one run.

    Attributes:
        started: seconds since the epoch, as is `ended`.
        exit_code: `None` while it runs.
        out_of_memory: whether it failed for want of memory, as far as the kernel tells.
        attempts: how often it was started; more than once if it was preempted.
        not_started: why it could not be started, the last time; `None` if it was.
    """

    id: str
    agent: str
    host: str
    gpus: str | None
    job_id: str
    pid: int
    log: str
    started: float
    ended: float | None = None
    exit_code: int | None = None
    stop_reason: str | None = None
    out_of_memory: bool = False
    attempts: int = 1
    not_started: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended by itself and badly, or could not be started."""
        return self.not_started is not None or (self.exit_code not in (None, 0) and self.stop_reason is None)

    @property
    def ended_well(self) -> bool:
        """Whether it ended by itself, with the exit status 0."""
        return self.exit_code == 0 and self.stop_reason is None


@dataclass(kw_only=True, slots=True)
class AgentView:
    """What the events tell of one agent; its liveness is the scheduler's to tell.

    Attributes:
        running: the runs that it is running, oldest first.
        done: how many runs have ended by themselves; a run that comes back counts where it ends for good.
        failed: how many of those failed.
        cut_short: how many more were told to end.
        cuts: how often its task's time limit has cut a run short; one that came back or was cut again counts each time.
        stopped: why it ended; `None` while it has not said so.
        server_lost: what it said of the server since that stopped answering.
        cold: why its runs start cold, although they were to start warm.
    """

    name: str
    task: int
    host: str = ""
    pid: int = 0
    job_id: str = ""
    gpus: str | None = None
    cpus: list[int] = field(default_factory=list)
    agent_id: str | None = None
    running: list[str] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    cut_short: int = 0
    cuts: int = 0
    stopped: str | None = None
    ok: bool | None = None
    server_lost: str | None = None
    cold: str | None = None


class Journal:
    """Folds the events of all agents of a submission into their present state.

    `update` reads what is new and returns it, so that one journal serves a live table as well as a log.
    """

    def __init__(self, paths: SubmissionPaths) -> None:
        self._paths = paths
        self._readers: dict[str, EventReader] = {}
        self.agents: dict[str, AgentView] = {}
        self.runs: dict[str, RunView] = {}

    def update(self) -> list[tuple[str, Stamped]]:
        """Reads on; returns the new events with their agents' names, oldest first."""
        news = sorted(self._read(), key=lambda item: item[1].t)
        for agent, stamped in news:
            self._fold(agent, stamped)
        return news

    def _read(self) -> Iterator[tuple[str, Stamped]]:
        try:
            names = sorted((path.name for path in self._paths.agents.iterdir()), key=sort_key)
        except FileNotFoundError:
            return
        for name in names:
            reader = self._readers.setdefault(name, EventReader(self._paths.events(name)))
            for stamped in reader.read():
                yield name, stamped

    def _fold(self, name: str, stamped: Stamped) -> None:
        agent = self.agents.setdefault(name, AgentView(name=name, task=sort_key(name)[0]))
        match stamped.event:
            case AgentStarted() as event:
                agent.host, agent.pid, agent.job_id = event.host, event.pid, event.job_id
                agent.gpus, agent.cpus = event.gpus, event.cpus
                agent.stopped, agent.ok, agent.server_lost, agent.running = None, None, None, []
                agent.cold = None
            case AgentRegistered(agent_id=agent_id):
                agent.agent_id = agent_id
            case RunStarted() as event:
                agent.running.append(event.run)
                before = self.runs.get(event.run)
                if before is not None and before.ended is not None:
                    self._count(before, -1)
                self.runs[event.run] = RunView(
                    id=event.run,
                    agent=name,
                    host=agent.host,
                    gpus=agent.gpus,
                    job_id=agent.job_id,
                    pid=event.pid,
                    log=event.log,
                    started=stamped.t,
                    attempts=before.attempts + 1 if before else 1,
                )
            case RunFinished() as event:
                agent.cuts += event.reason == TIME_LIMIT
                if event.run in agent.running:
                    agent.running.remove(event.run)
                # Not if another agent has resumed it meanwhile: nodes' clocks differ.
                if (run := self.runs.get(event.run)) and run.agent == name:
                    run.ended, run.exit_code, run.stop_reason = stamped.t, event.exit_code, event.reason
                    run.out_of_memory = event.out_of_memory
                    self._count(run, 1)
            case RunAbandoned(failed=True) as event:
                before = self.runs.get(event.run)
                if before is not None and before.ended is not None:
                    self._count(before, -1)
                self.runs[event.run] = run = RunView(
                    id=event.run,
                    agent=name,
                    host=agent.host,
                    gpus=agent.gpus,
                    job_id=agent.job_id,
                    pid=0,
                    log=before.log if before else "",
                    started=stamped.t,
                    ended=stamped.t,
                    attempts=before.attempts if before else 0,
                    not_started=event.reason,
                )
                self._count(run, 1)
            case RunAbandoned():  # another agent gets it
                pass
            case ColdStarts(reason=reason):
                agent.cold = f"runs start cold: {reason}"
            case ServerLost(reason=reason):
                agent.server_lost = reason
            case ServerBack():
                agent.server_lost = None
            case AgentStopped(reason=reason, ok=ok):
                agent.stopped, agent.ok = reason, ok

    def _count(self, run: RunView, by: int) -> None:
        """Counts a run that has ended, or takes that back for one that goes on."""
        agent = self.agents[run.agent]
        if run.stop_reason is not None:
            agent.cut_short += by
        else:
            agent.done += by
            agent.failed += by * run.failed
