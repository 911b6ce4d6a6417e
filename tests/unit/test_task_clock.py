"""Whether an array task has time for another run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from wandb_submit.agent.task_clock import TaskClock
from wandb_submit.events import EventWriter, RunFinished
from wandb_submit.paths import SubmissionPaths
from wandb_submit.specs import ArraySpec, SubmissionSpec


def spec(time_min: int | None = 60, **changes: float) -> SubmissionSpec:
    return SubmissionSpec(
        executor="slurm",
        array=ArraySpec(count=1),
        workdir=Path("/w"),
        time_min=time_min,
        **changes,
    )


@pytest.fixture
def paths(tmp_path: Path) -> SubmissionPaths:
    return SubmissionPaths(tmp_path)


def test_without_a_limit_it_is_never_too_late(paths: SubmissionPaths) -> None:
    clock = TaskClock.of(spec(None), None, paths)
    clock.saw_run(1e9)
    assert clock.too_late() is None


def test_it_is_too_late_for_a_run_as_long_as_the_longest_seen() -> None:
    clock = TaskClock(left_s=1000, longest_s=0)
    assert clock.too_late() is None
    clock.saw_run(999)
    clock.saw_run(5)
    assert clock.too_late() is None
    late = TaskClock(left_s=0.02, longest_s=0.01)
    time.sleep(0.03)
    assert "0 s are left" in str(late.too_late())


def test_runs_that_no_task_is_long_enough_for_are_not_waited_for() -> None:
    clock = TaskClock(left_s=0.02, longest_s=3600)
    time.sleep(0.03)
    assert clock.too_late() is None


def test_the_limit_is_the_schedulers_word_or_what_was_asked_for(paths: SubmissionPaths) -> None:
    """Of 60 minutes 90 s are kept for the end; the scheduler may have given less."""
    assert TaskClock.of(spec(min_run_s=3000), None, paths).too_late() is None
    assert TaskClock.of(spec(min_run_s=1000), time.time() + 1200, paths).too_late() is None
    clock = TaskClock.of(spec(min_run_s=0.01), time.time() + 90.02, paths)
    time.sleep(0.03)
    assert clock.too_late() is not None


def test_what_the_submissions_other_agents_saw_counts(paths: SubmissionPaths) -> None:
    for agent, seconds, reason in (("0", 20.0, None), ("1", 40.0, None), ("2", 999.0, "received SIGTERM")):
        writer = EventWriter(paths.events(agent))
        writer.write(RunFinished(run="r", exit_code=0, seconds=seconds, reason=reason))
        writer.close()
    clock = TaskClock.of(spec(), time.time() + 90 + 40.01, paths)
    time.sleep(0.02)
    assert "up to 40 s" in str(clock.too_late())
