"""What an array task reads from Slurm's answers about itself."""

from __future__ import annotations

import datetime as dt

import pytest
from unit.conftest import Program

from wandb_submit.agent import slurm_job

# From `scontrol show job --oneliner` of Slurm 22.05, shortened.
SHOWN = (
    "JobId=275 ArrayTaskId=0 JobState={state} Reason=None EndTime={end} Deadline=N/A "
    "PreemptEligibleTime=2026-11-23T21:51:18 PreemptTime={preempted} Power="
)


@pytest.fixture(autouse=True)
def _in_an_array_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "275")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)


def answers(program: Program, *, state: str = "RUNNING", preempted: str = "None", end: str = "Unknown") -> None:
    text = SHOWN.format(state=state, preempted=preempted, end=end)
    program("scontrol", f'[ "$*" = "show job 275_0 --oneliner" ] && echo "{text}"')


@pytest.mark.parametrize(
    ("state", "time", "preempted"),
    [
        ("RUNNING", "2026-11-23T21:51:22", True),
        ("RUNNING", "None", False),
        ("CANCELLED", "2026-11-23T21:51:22", False),
        ("COMPLETING", "None", False),
    ],
)
def test_preemption_is_told_from_scancel(program: Program, state: str, time: str, preempted: bool) -> None:
    answers(program, state=state, preempted=time)
    assert slurm_job.is_preempted() is preempted


def test_without_an_answer_nobody_is_preempted(program: Program) -> None:
    program("scontrol", "exit 1")
    assert not slurm_job.is_preempted()


def test_outside_slurm_nobody_is_asked(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(program, preempted="2026-11-23T21:51:22", end="2026-11-23T21:51:22")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID")
    assert not slurm_job.is_preempted()
    assert slurm_job.ends_at(ask=True) is None


def test_the_end_is_read_from_the_environment_first(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(program, end="2026-11-23T21:51:22")
    assert slurm_job.ends_at(ask=False) is None
    assert slurm_job.ends_at(ask=True) == dt.datetime(2026, 11, 23, 21, 51, 22).astimezone().timestamp()
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1795470692")
    assert slurm_job.ends_at(ask=True) == 1795470692


@pytest.mark.parametrize("end", ["Unknown", "N/A", ""])
def test_a_job_without_an_end_has_none(program: Program, end: str) -> None:
    answers(program, end=end)
    assert slurm_job.ends_at(ask=True) is None


@pytest.mark.parametrize(
    ("answer", "address"),
    [
        ("echo 'NodeName=n1 Arch=x86_64 NodeAddr=10.0.0.7 NodeHostName=n1 Version=24.11'", "10.0.0.7"),
        ("exit 1", "n1"),
    ],
)
def test_a_nodes_address_is_the_one_that_slurm_uses(
    program: Program, monkeypatch: pytest.MonkeyPatch, answer: str, address: str
) -> None:
    program("scontrol", answer)
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    assert slurm_job.node_address() == address
