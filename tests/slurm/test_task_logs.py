"""What a task on Slurm has said: one log, in the order of time, without submitit's own words."""

from __future__ import annotations

import pytest
from support import Shell

pytestmark = pytest.mark.slurm

QUICK = "print('done')\n"
OPTIONS = ("--offline", "--executor", "slurm", "--array", "1", "--wait", "--json")


def test_a_tasks_log_is_in_the_order_of_time_and_without_submitits_chatter(root_shell: Shell) -> None:
    sweep = root_shell.sweep(QUICK, parameters={"x": {"values": [1, 2]}})
    setup = ("--setup", "echo to stdout; echo to stderr >&2; echo to stdout again")
    done = root_shell.run(sweep, *OPTIONS, *setup, "--teardown", "echo the last word", timeout_s=240)
    assert done.returncode == 0, done.stderr
    lines = root_shell.ok("logs", "--task", "0").splitlines()
    assert lines[:3] == ["to stdout", "to stderr", "to stdout again"]
    assert lines[-1] == "the last word"
    told = [line[:23] for line in lines if " agent 0" in line or " run " in line]  # when
    assert told == sorted(told)
    assert len(told) > 3
    assert not [line for line in lines if "submitit" in line]


@pytest.mark.parametrize(
    ("setup", "cause"),
    [
        ('source "$(conda info --base)/etc/profile.d/conda.sh"', "conda: command not found"),
        ("module load cuda\necho 'have you loaded the site module?'\nfalse", "module: command not found"),
        ("set -e; conda activate vision; echo never", "conda: command not found"),
    ],
)
def test_a_setup_that_fails_is_told_with_its_first_cause(setup: str, cause: str, root_shell: Shell) -> None:
    sweep = root_shell.sweep(QUICK, parameters={"x": {"values": [1]}})
    done = root_shell.run(sweep, *OPTIONS, "--setup", "true", "--setup", setup, timeout_s=240)
    assert done.returncode == 1
    assert "agent 0 failed: command 2 of setup failed with exit status " in done.stderr
    assert f": {cause} (its log: " in done.stderr


def test_why_a_task_did_not_begin_is_one_line_of_its_log(root_shell: Shell) -> None:
    sweep = root_shell.sweep(QUICK, parameters={"x": {"values": [1]}})
    done = root_shell.run(
        sweep, *OPTIONS, "--setup", "export HERE=/no", "--python", '"$HERE/such/python"', timeout_s=240
    )
    assert done.returncode == 1
    said = root_shell.ok("logs", "--task", "0")
    assert said.count("no run can be started") == 1
    assert "Traceback" not in said
