"""What becomes of array tasks that Slurm says little about, and of us when it says nothing at all."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm.bed import SCRIPT, environment
from support import Shell, wait_until

pytestmark = pytest.mark.slurm

# Ends by itself where it is told to.
WORK = "import os, time\nopen('started-' + os.environ['WANDB_RUN_ID'], 'w').close()\ntime.sleep({seconds})\n"


@pytest.fixture
def bare_shell(public_tmp: Path, clean_env: dict[str, str], second_bed: dict[str, str]) -> Iterator[Shell]:
    """Root on a cluster without accounting, whose queue forgets jobs within seconds."""
    shell = Shell(folder=public_tmp, env={**clean_env, **environment(second_bed)})
    yield shell
    subprocess.run(["scancel", "--user=root"], env=dict(shell.env), check=False, timeout=60)
    shell.leave()


def states(answer: dict) -> list[str]:
    return [task["state"] for task in answer["tasks"]]


def test_tasks_that_are_cancelled_while_they_wait_have_ended(root_shell: Shell) -> None:
    """Slurm has no record of them, or one that says PENDING for ever."""
    sweep = root_shell.sweep("pass", parameters={"x": {"values": [1, 2, 3, 4]}})
    later = ("--offline", "--executor", "slurm", "--sbatch", "begin=now+1hour")
    submitted = root_shell.json(sweep, *later, "--array", "4")
    array = submitted["jobs"][0].partition("_")[0]
    root_shell.call("scancel", f"{array}_[1-2]")
    answer = root_shell.json("status")
    assert states(answer) == ["pending", "cancelled", "cancelled", "pending"]
    assert answer["tasks"][1]["detail"] == "it left the queue before it began"
    root_shell.call("scancel", f"{array}_0", f"{array}_3")
    other = root_shell.json(sweep, *later, "--array", "2")
    listed = root_shell.json("status", "--all")
    assert {one["id"]: states(one) for one in listed} == {
        submitted["id"]: ["cancelled"] * 4,
        other["id"]: ["pending"] * 2,
    }
    root_shell.ok("cancel", other["id"])


def test_a_task_cancelled_while_it_waits_is_not_told_with_why_it_waited(root_shell: Shell) -> None:
    sweep = root_shell.sweep(WORK.format(seconds=600), parameters={"x": {"values": [1, 2]}})
    submitted = root_shell.json(sweep, "--offline", "--array", "2%1")
    wait_until(lambda: root_shell.events(submitted["id"], "run_started"), what="the first task has a run")
    assert root_shell.json("status")["tasks"][1]["detail"] == "JobArrayTaskLimit"
    root_shell.ok("cancel", submitted["id"])
    done = root_shell.run("wait")
    assert "JobArrayTaskLimit" not in done.stdout + done.stderr.rpartition("runs done")[2]
    assert re.search(r"agent 1 cancelled: it (was cancelled|left the queue) before it began\n", done.stderr), (
        done.stderr
    )


def test_a_setup_that_fails_is_told_with_what_it_said(root_shell: Shell) -> None:
    sweep = root_shell.sweep("pass", parameters={"x": {"values": [1]}})
    options = ("--array", "1", "--setup", "source /nonexist/activate", "--wait", "--json")
    done = root_shell.run(sweep, "--offline", *options)
    (task,) = json.loads(done.stdout)["tasks"]
    assert task["detail"].startswith("command 1 of setup failed with exit status 1: "), done.stderr
    assert task["detail"].endswith("/nonexist/activate: No such file or directory")


def test_without_accounting_a_tasks_own_files_tell_how_it_ended(bare_shell: Shell) -> None:
    sweep = bare_shell.sweep(WORK.format(seconds=600), parameters={"x": {"values": [1, 2, 3, 4]}})
    submitted = bare_shell.json(sweep, "--offline", "--array", "4%3", "--time", "60")
    told, killed, waiting = (submitted["jobs"][task] for task in (0, 1, 3))
    wait_until(lambda: len(bare_shell.events(submitted["id"], "run_started")) == 3, what="three runs have started")
    bare_shell.call("scancel", waiting)
    bare_shell.call("scancel", told)
    (pid,) = {
        event["pid"] for event in bare_shell.events(submitted["id"], "agent_started") if event["job_id"] == killed
    }
    os.kill(pid, signal.SIGKILL)
    quick = bare_shell.json(
        bare_shell.sweep("pass", name="quick", parameters={"x": {"value": 1}}), *("--offline", "--wait"), "--array", "1"
    )

    def forgotten() -> bool:
        ended = ",".join((told, killed, *(task["job"] for task in quick["tasks"])))
        return not bare_shell.call("squeue", "--noheader", "--states=all", f"--jobs={ended}").stdout.strip()

    wait_until(forgotten, what="squeue has forgotten what ended")
    assert states(bare_shell.json("status", submitted["id"])) == ["cancelled", "failed", "running", "cancelled"]
    assert states(bare_shell.json("status", quick["id"])) == ["completed"]


def test_a_controller_that_is_away_is_waited_for(root_shell: Shell) -> None:
    sweep = root_shell.sweep(WORK.format(seconds=40), parameters={"x": {"values": [1]}})
    submitted = root_shell.json(sweep, "--offline", "--array", "1", "--time", "60")
    following = root_shell.start("wait", submitted["id"], "--json")
    (run,) = wait_until(lambda: root_shell.events(submitted["id"], "run_started"), what="the run has started")
    before = states(root_shell.json("status"))
    # One that is killed earlier still takes the job for pending, and its node for broken (24.11).
    wait_until(lambda: saved_at(root_shell) > run["t"], what="the controller has written down what it knows")
    os.kill(controller(), signal.SIGKILL)
    try:
        asked = [
            root_shell.start(*argv)
            for argv in (
                ("status", "--json"),
                ("cancel", submitted["id"]),
                (sweep, "--offline", "--array", "1"),
            )
        ]
        status, cancel, submit = ((one.communicate(timeout=120), one.returncode) for one in asked)
    finally:
        subprocess.run([SCRIPT, "start"], check=True, timeout=120)
    answer = json.loads(status[0][0])
    assert "Unable to contact slurm controller" in answer["scheduler_error"]
    assert (before, states(answer)) == (["running"], ["unknown"])
    for (_, said), status_code in (cancel, submit):
        assert status_code == 5
        assert "Unable to contact slurm controller" in said
    assert "--executor local" in submit[0][1]
    assert len(list(root_shell.folder.glob(".wandb-submit/*/submission.json"))) == 1
    said, problems = following.communicate(timeout=240)  # slurmd reports late to a new controller
    assert following.returncode == 0, problems
    assert states(json.loads(said)) == ["completed"]


def controller() -> int:
    """The process of the test bed's slurmctld."""
    (line,) = [
        line
        for line in subprocess.check_output([SCRIPT, "status"], text=True).splitlines()
        if line.startswith("slurmctld")
    ]
    return int(line.split()[-1])


def saved_at(shell: Shell) -> float:
    """When the controller has last saved the state of its jobs."""
    config = shell.call("scontrol", "show", "config").stdout
    (folder,) = re.findall(r"^StateSaveLocation\s*=\s*(\S+)$", config, re.MULTILINE)
    return (Path(folder) / "job_state").stat().st_mtime
