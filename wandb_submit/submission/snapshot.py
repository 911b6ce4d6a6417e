"""A submission at one moment: its array tasks, what their scheduler says of them, and how far their runs are."""

from __future__ import annotations

from dataclasses import dataclass

from wandb_submit.executors.base import TaskStatus
from wandb_submit.store.halt import Halt
from wandb_submit.store.journal import AgentView, RunView
from wandb_submit.store.record import SubmissionRecord
from wandb_submit.store.siblings import SweepProgress

_KILLED = "killed before its runs had ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskView:
    """One array task: what its scheduler says, and what its agents have written.

    Attributes:
        agents: its agents; none before it has started.
        runs: the runs that they are running.
        surplus: why it was taken out of the queue where there was nothing left for it to do; else `None`.
    """

    index: int
    job: str
    status: TaskStatus
    agents: tuple[AgentView, ...]
    runs: tuple[RunView, ...]
    surplus: str | None = None

    @property
    def done(self) -> int:
        """How many runs of its agents have ended by themselves."""
        return sum(agent.done for agent in self.agents)

    @property
    def failed(self) -> int:
        """How many of those failed."""
        return sum(agent.failed for agent in self.agents)

    @property
    def cut_short(self) -> int:
        """How many more were stopped (cancelled, stopped at W&B, or preempted) and are not back yet."""
        return sum(agent.cut_short for agent in self.agents)

    @property
    def cuts(self) -> int:
        """How often its time limit has cut a run short."""
        return sum(agent.cuts for agent in self.agents)

    @property
    def gpus(self) -> str | None:
        """The GPUs that its agents' runs see; `None` where nothing tells them, or it is not known yet."""
        known = [agent.gpus for agent in self.agents if agent.gpus is not None]
        tokens = dict.fromkeys(token for gpus in known for token in gpus.split(","))
        return ",".join(tokens) if known else None

    @property
    def cpus(self) -> list[int] | None:
        """The cores of its agents; `None` where they are not known yet."""
        return sorted({core for agent in self.agents for core in agent.cpus}) if self.agents else None

    @property
    def detail(self) -> str:
        """Why it is in its state, in one line."""
        if self.status.orphaned:
            return self.status.detail
        over = self.status.state.is_terminal
        said = (agent.stopped or ("" if over else agent.server_lost) for agent in self.agents)
        killed = _KILLED if over and any(agent.running for agent in self.agents) else ""
        words = next((text for text in said if text), self.surplus or self.status.detail or killed)
        cold = next((agent.cold for agent in self.agents if agent.cold), "")
        return "; ".join(text for text in (words, cold) if text)

    @property
    def is_well(self) -> bool:
        """Whether it ended, or goes on, as it should."""
        state = self.status.state
        ended_badly = state.is_terminal and not state.is_success and self.surplus is None
        return not ended_badly and all(agent.ok is not False for agent in self.agents)


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A submission at one moment.

    Attributes:
        scheduler_error: why the scheduler could not be asked; the states are then the last ones known.
        halt: why its agents take no more runs; `None` while they do.
        sweep: how far the sweep is, where others work on it, too, or had begun it; else `None`.
    """

    record: SubmissionRecord
    tasks: tuple[TaskView, ...]
    scheduler_error: str | None = None
    halt: Halt | None = None
    sweep: SweepProgress | None = None

    @property
    def is_over(self) -> bool:
        """Whether every task has ended."""
        return all(task.status.state.is_terminal for task in self.tasks)

    @property
    def is_well(self) -> bool:
        """Whether no task and no agent ended in a way that somebody should look at."""
        return (self.halt is None or self.halt.ok) and all(task.is_well for task in self.tasks)

    def detail(self, task: TaskView) -> str:
        """Why a task is in its state; nothing where that is what `halt` says of all of them."""
        is_common = self.halt is not None and not self.halt.ok and task.detail == self.halt.reason
        return "" if is_common else task.detail

    @property
    def runs_done(self) -> int:
        """How many runs have ended by themselves."""
        return sum(task.done for task in self.tasks)

    @property
    def runs_failed(self) -> int:
        """How many of those failed."""
        return sum(task.failed for task in self.tasks)

    @property
    def runs_stopped(self) -> int:
        """How many more were stopped (cancelled, stopped at W&B, or preempted) and are not back yet."""
        return sum(task.cut_short for task in self.tasks)

    @property
    def cuts(self) -> int:
        """How often their tasks' time limit has cut runs short."""
        return sum(task.cuts for task in self.tasks)

    def __repr__(self) -> str:
        return f"<Snapshot of {self.record.id}: {self.progress}{', over' if self.is_over else ''}>"

    @property
    def progress(self) -> str:
        """How far it is, such as `runs done 9 of 12, 1 failed`; of a shared sweep with that one's own total."""
        if self.record.agent == "wandb":
            return "runs are not followed with --agent wandb"
        total = None if self.sweep else self.record.runs_left
        of = "" if total is None else f" of {total}"
        failed = f", {self.runs_failed} failed" if self.runs_failed else ""
        stopped = f", {self.runs_stopped} stopped" if self.runs_stopped else ""
        cut = f", {self.cuts} cut by the time limit" if self.cuts else ""
        shared = f"; sweep: {self.sweep.done} of {self.sweep.total} done" if self.sweep else ""
        return f"runs done {self.runs_done}{of}{failed}{stopped}{cut}{shared}"

    @property
    def bar(self) -> tuple[int, int] | None:
        """How long a bar is that shows it, and how much of it is full; `None` if the sweep's end is not known."""
        if self.sweep:
            return self.sweep.total, self.sweep.done
        total = self.record.runs_left
        return None if total is None else (total, min(self.runs_done + self.runs_stopped, total))
