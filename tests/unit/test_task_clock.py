"""Whether an array task has time for another run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from wandb_submit.agent.task_clock import TaskClock
from wandb_submit.spec import ArraySpec, SubmissionSpec
from wandb_submit.store.events import EventWriter, RunFinished
from wandb_submit.store.paths import SubmissionPaths


def spec(time_min: int | None = 60, executor: str = "slurm", **changes: float) -> SubmissionSpec:
    return SubmissionSpec(
        executor=executor,
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


def test_what_passes_before_an_agent_is_ready_does_not_send_it_back_into_the_queue_for_ever() -> None:
    """Setup, imports and the server's answer take as long in the next task."""
    clock = TaskClock(left_s=0.5, longest_s=0.49)
    time.sleep(0.03)
    assert clock.too_late() is not None
    clock.begins()
    assert clock.too_late() is None


def test_the_limit_is_slurms_word_or_what_was_asked_for(paths: SubmissionPaths) -> None:
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


@pytest.mark.parametrize(
    ("executor", "time_min", "ends_in_s", "known_left_s"),
    [
        ("slurm", 60, 1200, 1110),  # as with --sbatch time-min
        ("slurm", 60, 7200, 7110),
        ("slurm", 60, None, 3510),
        ("slurm", None, 600, 510),
        ("local", 60, 1200, 1110),  # inside a job of Slurm's that ends earlier
        ("local", 60, 7200, 3510),
        ("local", None, 600, 510),
    ],
)
def test_which_limit_holds(
    executor: str, time_min: int | None, ends_in_s: float | None, known_left_s: float, paths: SubmissionPaths
) -> None:
    ends_at = None if ends_in_s is None else time.time() + ends_in_s
    # A run as long as what is left does not fit any more a moment later; a longer one fits into no task.
    asked = spec(time_min, executor, min_run_s=known_left_s - 5)
    assert TaskClock.of(asked, ends_at, paths).too_late() is None
    clock = TaskClock.of(spec(time_min, executor), ends_at, paths)
    clock.saw_run(known_left_s - 0.001)
    time.sleep(0.01)
    assert clock.too_late() is not None
    clock.saw_run(known_left_s + 5)
    assert clock.too_late() is None
