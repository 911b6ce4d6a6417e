"""What people see: tables and lines made from snapshots, events and results."""

from __future__ import annotations

import bisect
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from wandb_submit.cli._ledger import Column, Ledger
from wandb_submit.executors.states import TaskState
from wandb_submit.store.events import (
    AgentRegistered,
    AgentStarted,
    AgentStopped,
    ColdStarts,
    RunAbandoned,
    RunFinished,
    RunStarted,
    ServerBack,
    ServerLost,
    Stamped,
)
from wandb_submit.text import counted, duration, exit_words

if TYPE_CHECKING:
    from wandb_submit.store.journal import RunView
    from wandb_submit.submission.snapshot import Snapshot, TaskView
    from wandb_submit.wandb_api.results import Results

_STYLES = {
    TaskState.PENDING: "yellow",
    TaskState.RUNNING: "green",
    TaskState.COMPLETED: "dim",
    TaskState.UNKNOWN: "magenta",
}
_TASK_COLUMNS = (
    Column(name="task", right=True, stays=True),
    Column(name="state", stays=True),
    Column(name="node"),
    Column(name="GPU", is_list=True),
    Column(name="run", is_list=True),
    Column(name="for", right=True, stays=True),
    Column(name="done", right=True, stays=True),
    Column(name="failed", right=True, stays=True),
    Column(name="stopped", right=True, stays=True),
    Column(name=""),
)
_RUN_COLUMNS = (
    Column(name="run", stays=True),
    Column(name="agent", stays=True),
    Column(name="node"),
    Column(name="GPU", is_list=True),
    Column(name="took", stays=True),
    Column(name="end"),
    Column(name="log", derivable=True),
)
_BAR, _LEAST_BAR = 40, 10  # columns
_ENDLESS = 1_000_000  # columns: no line is as long


def show(view: RenderableType, *, err: bool = False) -> None:
    """Prints a view; where that is no terminal, as plain lines with nothing cut off and no blanks at their ends."""
    if (sys.stderr if err else sys.stdout).isatty():
        Console(stderr=err).print(view)
        return
    plain = Console(width=_ENDLESS, file=io.StringIO(), force_terminal=False)
    with plain.capture() as captured:
        plain.print(view)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), err=err)


def near(path: str) -> str:
    """A path as one would type it here."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def event_line(agent: str, stamped: Stamped) -> str | None:
    """One event as a line of text; `None` for one that says nothing to a person."""
    clock = time.strftime("%H:%M:%S", time.localtime(stamped.t))
    match stamped.event:
        case AgentStarted() as event:
            gpus = "" if event.gpus is None else f", GPU {event.gpus or 'none'}"
            words = f"started on {event.host}{gpus}, cores {','.join(map(str, event.cpus))}"
        case AgentRegistered():
            return None
        case RunStarted(run=run, resumed=resumed):
            words = f"run {run} {'resumed' if resumed else 'started'}"
        case RunFinished() as event:
            oom = event.out_of_memory
            end = exit_words(event.exit_code, event.reason, out_of_memory=oom, seconds=event.seconds)
            words = f"run {event.run} {end}"
        case RunAbandoned(run=run, reason=reason):
            words = f"run {run} not started: {reason}"
        case ColdStarts(reason=reason):
            words = f"runs start cold: {reason}"
        case ServerLost(reason=reason):
            words = f"the server does not answer, trying again: {reason}"
        case ServerBack(seconds=seconds):
            words = f"the server answers again after {duration(seconds)}"
        case AgentStopped(reason=reason):
            words = f"ended: {reason}"
    return f"{clock} agent {agent}: {words}"


def snapshot_view(snapshot: Snapshot, shown: int | None = None) -> RenderableType:
    """A submission as a table of its array tasks.

    Args:
        snapshot: the submission.
        shown: how many tasks to show, those first that somebody may want to see; `None` is all. The others are counted.
    """
    record = snapshot.record
    tasks = snapshot.tasks
    if shown is not None:
        tasks = tuple(sorted(sorted(tasks, key=_interest)[:shown], key=lambda task: task.index))
    table = Ledger(_TASK_COLUMNS)
    for task in tasks:
        table.add(*_task_cells(task, snapshot.detail(task)))
    head = Text(f"submission {record.id}  sweep {record.sweep.path}  {record.executor}", style="bold")
    parts: list[RenderableType] = [head, _Progress(snapshot), table]
    chosen = {task.index for task in tasks}
    if rest := Counter(task.status.state.value for task in snapshot.tasks if task.index not in chosen):
        states = ", ".join(f"{number} {state}" for state, number in rest.items())
        parts.append(Text(f"and {counted(rest.total(), 'more task')}: {states}", style="dim"))
    if snapshot.halt:
        parts.append(Text(f"no further runs: {snapshot.halt.reason}", style="dim" if snapshot.halt.ok else "red"))
    if snapshot.scheduler_error:
        parts.append(Text(f"{snapshot.scheduler_error} (the states above are the last ones known)", style="red"))
    return Group(*parts)


def _interest(task: TaskView) -> int:
    """Where a task stands in a list of those that a person wants to see."""
    if not task.is_well:
        return 0
    return {TaskState.COMPLETED: 3, TaskState.PENDING: 2}.get(task.status.state, 1)


class Screenful:
    """A submission's table in as many lines as the terminal has."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Leaves out as few tasks as it can."""
        tasks = len(self._snapshot.tasks)

        def fits(left_out: int) -> bool:
            view = snapshot_view(self._snapshot, tasks - left_out)
            return len(console.render_lines(view, options.update(height=None), pad=False)) < console.height

        least = max(tasks - console.height, 0)  # a task has at least a line
        left_out = bisect.bisect_left(range(least, tasks), True, key=fits) + least
        yield snapshot_view(self._snapshot, tasks - left_out)


class _Progress:
    """How many runs are done, with a bar where it is known how many there are and a terminal has room for it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._words = Text(snapshot.progress)
        self._bar = snapshot.bar

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = min(options.max_width - self._words.cell_len - 1, _BAR)
        if not (self._bar and console.is_terminal and room >= _LEAST_BAR):
            yield self._words
            return
        total, done = self._bar
        line = Table.grid(padding=(0, 1))
        line.add_row(self._words, ProgressBar(total=total, completed=done, width=room))
        yield line


def state_text(state: TaskState, *, is_well: bool) -> Text:
    """A state in its colour."""
    return Text(state.value, style=_STYLES.get(state, "red") if is_well else "red")


def _task_cells(task: TaskView, detail: str) -> list[str | Text]:
    node = task.agents[0].host if task.agents else task.status.node
    return [
        str(task.index),
        state_text(task.status.state, is_well=task.is_well),
        node,
        "" if task.gpus is None else task.gpus or "none",
        ",".join(run.id for run in task.runs),
        duration(time.time() - task.runs[0].started) if task.runs else "",
        str(task.done) if task.agents else "",
        str(task.failed) if task.agents else "",
        str(task.cut_short) if task.agents else "",
        detail,
    ]


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    """A submission for scripts."""
    record = snapshot.record
    return {
        "id": record.id,
        "sweep": record.sweep.path,
        "base_url": record.sweep.base_url,
        "executor": record.executor,
        "created": record.created,
        "over": snapshot.is_over,
        "ok": snapshot.is_well,
        "runs_done": snapshot.runs_done,
        "runs_failed": snapshot.runs_failed,
        "runs_stopped": snapshot.runs_stopped,
        "cuts": snapshot.cuts,
        "sweep_runs_done": snapshot.sweep.done if snapshot.sweep else None,
        "sweep_runs_total": snapshot.sweep.total if snapshot.sweep else record.runs_total,
        "scheduler_error": snapshot.scheduler_error,
        "halt": snapshot.halt.reason if snapshot.halt else None,
        "tasks": [
            {
                "task": task.index,
                "job": task.job,
                "state": task.status.state.value,
                "node": task.agents[0].host if task.agents else task.status.node,
                "gpus": task.gpus,
                "cpus": task.cpus,
                "running": [run.id for run in task.runs],
                "done": task.done,
                "failed": task.failed,
                "stopped": task.cut_short,
                "cuts": task.cuts,
                "detail": task.detail,
            }
            for task in snapshot.tasks
        ],
    }


def runs_view(runs: Iterable[RunView], lost: Set[str], submission: str) -> RenderableType:
    """Runs with the place that they ran in, how they ended, and their logs."""
    rows = list(runs)
    folder = next((str(Path(near(run.log)).parent) for run in rows if run.log), "")
    table = Ledger(_RUN_COLUMNS, instead=f"`wandb-submit logs {submission} RUN` prints a log; they are in {folder}")
    for run in rows:
        took = "" if run.id in lost else duration((run.ended or time.time()) - run.started)
        words = "running"
        if run.exit_code is not None:
            words = exit_words(run.exit_code, run.stop_reason, out_of_memory=run.out_of_memory)
        words = "lost with its agent" if run.id in lost else words
        if run.not_started is not None:
            words = f"not started: {run.not_started}"
        table.add(run.id, run.agent, run.host, run.gpus or "", took, words, run.log and near(run.log))
    return table


def results_text(results: Results) -> str:
    """How a sweep came out, in a few lines."""
    total = sum(results.states.values())
    by_state = ", ".join(f"{count} {state}" for state, count in sorted(results.states.items()))
    lines = [f"runs: {total} ({by_state})" if total else "runs: none"]
    if results.best is not None:
        best = results.best
        chosen = parameters(best.config, results.parameters)
        lines.append(f"best run: {best.id} ({best.name})")
        lines.append(f"  {results.metric} = {best.metric:.6g} ({results.goal})")
        lines += [f"  {name} = {value}" for name, value in chosen.items()]
    elif results.metric:
        lines.append(f"best run: no finished run has a value of {results.metric} in its summary")
    return "\n".join(lines)


def parameters(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The part of a run's configuration that the sweep chose."""
    return {name: config[name] for name in names if name in config}
