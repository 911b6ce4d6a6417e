"""How the agents of one array task share its devices."""

from __future__ import annotations

import pytest

from wandb_submit.agent.shares import shares


@pytest.mark.parametrize(
    ("agents", "gpus", "split"),
    [
        (1, "0,1", ["0,1"]),
        (2, "0,1", ["0", "1"]),
        (2, "0,1,2,3", ["0,1", "2,3"]),
        (2, "GPU-a", ["GPU-a", "GPU-a"]),
        (2, "0,1,2", ["0,1,2", "0,1,2"]),
        (2, "", ["", ""]),
        (2, None, [None, None]),
    ],
)
def test_gpus_are_split_where_they_divide_and_shared_otherwise(
    agents: int, gpus: str | None, split: list[str | None]
) -> None:
    assert [share.gpus for share in shares(agents, gpus=gpus, cores=[0])] == split


def test_cores_are_split_where_they_divide_and_runs_bound_to_them() -> None:
    assert [share.cores for share in shares(2, gpus=None, cores=[0, 1, 8, 9])] == [(0, 1), (8, 9)]
    assert [share.cores for share in shares(2, gpus=None, cores=[0, 1, 2])] == [(0, 1, 2)] * 2
    assert all(share.bind for share in shares(2, gpus=None, cores=[0, 1]))


def test_the_runs_of_a_tasks_only_agent_are_as_the_scheduler_made_them() -> None:
    (share,) = shares(1, gpus=None, cores=[3])
    assert not share.bind
    assert "CUDA_VISIBLE_DEVICES" not in share.environment({})
    (share,) = shares(1, gpus="0", cores=[3])
    own = {"CUDA_VISIBLE_DEVICES": "0", "ROCR_VISIBLE_DEVICES": "0"}
    assert own.items() <= share.environment(own).items()


def test_agents_that_split_a_tasks_gpus_are_told_by_the_variable_that_counts_and_no_other() -> None:
    task = {"ROCR_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "2,3"}
    _, second = shares(2, gpus="2,3", cores=[0], variable="ROCR_VISIBLE_DEVICES")
    seen = second.environment(task)
    assert (seen["ROCR_VISIBLE_DEVICES"], "CUDA_VISIBLE_DEVICES" in seen) == ("3", False)
    _, second = shares(2, gpus="2,3", cores=[0])
    seen = second.environment(task)
    assert (seen["CUDA_VISIBLE_DEVICES"], "ROCR_VISIBLE_DEVICES" in seen) == ("3", False)


def test_runs_start_as_many_threads_as_they_have_cores_unless_told_otherwise() -> None:
    first, _ = shares(2, gpus=None, cores=[0, 1, 8, 9])
    told = first.environment({"OMP_NUM_THREADS": "1", "HOME": "/h"})
    assert (told["OMP_NUM_THREADS"], told["MKL_NUM_THREADS"], told["HOME"]) == ("1", "2", "/h")
