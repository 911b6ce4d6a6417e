"""What a task that has ended says of its end, where its agent could not."""

from __future__ import annotations

import pytest

from wandb_submit.executors.base import TaskStatus
from wandb_submit.executors.states import TaskState
from wandb_submit.store.journal import AgentView
from wandb_submit.submission.snapshot import TaskView

LOST = "Connection refused"


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (TaskStatus(state=TaskState.RUNNING), LOST),
        (TaskStatus(state=TaskState.CANCELLED), "killed before its runs had ended"),
        (TaskStatus(state=TaskState.TIMEOUT, detail="TimeLimit"), "TimeLimit"),
    ],
)
def test_a_lost_server_is_no_reason_for_a_tasks_end(status: TaskStatus, detail: str) -> None:
    agent = AgentView(name="0", task=0, running=["r1"], server_lost=LOST)
    task = TaskView(index=0, job="7_0", status=status, agents=(agent,), runs=())
    assert task.detail == detail
