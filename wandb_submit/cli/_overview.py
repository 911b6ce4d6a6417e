"""All submissions of a folder, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from rich.console import Group, RenderableType
from rich.text import Text

from wandb_submit.cli._ledger import Column, Ledger
from wandb_submit.cli._render import state_text
from wandb_submit.executors.states import TaskState
from wandb_submit.submission.snapshot import Snapshot
from wandb_submit.text import duration

_COLUMNS = (
    Column(name="submission", stays=True),
    Column(name="age", right=True, stays=True),
    Column(name="state", stays=True),
    Column(name="sweep", stays=True),
    Column(name="runs", stays=True),
    Column(name="tasks", right=True, derivable=True),
    Column(name="on", derivable=True),
    Column(name="project", derivable=True),
)


def overview(snapshots: Sequence[Snapshot]) -> RenderableType:
    """A table with a line for each submission, in the order given, and below it what is wrong with their schedulers."""
    table = Ledger(_COLUMNS)
    now = datetime.now(timezone.utc)
    for snapshot in snapshots:
        record = snapshot.record
        age_s = (now - datetime.fromisoformat(record.created)).total_seconds()
        table.add(
            record.id,
            duration(max(age_s, 0)),
            state_text(_state(snapshot), is_well=snapshot.is_well),
            record.sweep.id,
            snapshot.progress.removeprefix("runs done "),
            str(len(snapshot.tasks)),
            record.executor,
            f"{record.sweep.entity}/{record.sweep.project}",
        )
    errors = dict.fromkeys(snapshot.scheduler_error for snapshot in snapshots if snapshot.scheduler_error)
    return Group(table, *(Text(f"{error} (the states above are the last ones known)", style="red") for error in errors))


def _state(snapshot: Snapshot) -> TaskState:
    """The state of a submission in one word: what its tasks do, or the worst that became of them."""
    states = [TaskState.COMPLETED if task.surplus else task.status.state for task in snapshot.tasks]
    if not snapshot.is_over:
        going = (TaskState.RUNNING, TaskState.PENDING)
        return next((state for state in going if state in states), TaskState.UNKNOWN)
    bad = [state for state in states if not state.is_success]
    if not bad:
        return TaskState.COMPLETED if snapshot.is_well else TaskState.FAILED
    return next((state for state in bad if state is not TaskState.CANCELLED), TaskState.CANCELLED)
