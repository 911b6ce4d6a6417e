"""What the events of a submission's agents add up to: its agents and runs as they are now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

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
                self._begin(agent, event.run, stamped.t, pid=event.pid, log=event.log)
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
                run = self._begin(agent, event.run, stamped.t)
                run.ended, run.not_started = stamped.t, event.reason
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

    def _begin(self, agent: AgentView, run_id: str, at: float, *, pid: int = 0, log: str | None = None) -> RunView:
        """Notes that an agent has a run, which may have been another's before; without a log it was not started."""
        before = self.runs.get(run_id)
        if before is not None and before.ended is not None:
            self._count(before, -1)
        last_log, attempts = (before.log, before.attempts) if before else ("", 0)
        run = RunView(
            id=run_id,
            agent=agent.name,
            host=agent.host,
            gpus=agent.gpus,
            job_id=agent.job_id,
            pid=pid,
            log=last_log if log is None else log,
            started=at,
            attempts=attempts + (log is not None),
        )
        self.runs[run_id] = run
        return run

    def _count(self, run: RunView, by: int) -> None:
        """Counts a run that has ended, or takes that back for one that goes on."""
        agent = self.agents[run.agent]
        if run.stop_reason is not None:
            agent.cut_short += by
        else:
            agent.done += by
            agent.failed += by * run.failed
