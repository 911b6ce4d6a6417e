from __future__ import annotations

import pytest

from wandb_submit.executors.states import TaskState

MAY_GO_ON = [TaskState.PENDING, TaskState.RUNNING, TaskState.UNKNOWN]


@pytest.mark.parametrize("state", MAY_GO_ON)
def test_a_task_that_may_go_on_has_not_ended(state: TaskState) -> None:
    assert not state.is_terminal


@pytest.mark.parametrize("state", [state for state in TaskState if state not in MAY_GO_ON])
def test_every_other_state_is_an_end(state: TaskState) -> None:
    assert state.is_terminal


def test_completed_is_the_only_success() -> None:
    assert [state for state in TaskState if state.is_success] == [TaskState.COMPLETED]
