"""Time limits that a real Slurm gives, and what becomes of runs that do not fit into them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from slurm.bed import CPU1
from support import Shell, wait_until

pytestmark = pytest.mark.slurm


@pytest.fixture
def brief(root_shell: Shell) -> Iterator[str]:
    """A partition whose jobs have one minute unless they ask for more."""

    def scontrol(*argv: str) -> None:
        subprocess.run(["scontrol", *argv], env=dict(root_shell.env), check=True, timeout=60)

    scontrol("create", "partition=brief", f"Nodes={CPU1}", "DefaultTime=1", "MaxTime=10")
    yield "brief"
    scontrol("delete", "partition=brief")


def test_the_partitions_default_is_named_and_refused_where_it_leaves_no_time(root_shell: Shell, brief: str) -> None:
    sweep = root_shell.sweep("pass", parameters={"x": {"value": 1}})
    options = (sweep, "--offline", "--executor", "slurm", "--array", "1", "--dry-run")
    done = root_shell.run(*options, "--partition", "short")
    assert done.returncode == 0
    assert "note: --time was not given: a task's limit is 5:00 (DefaultTime of partition short)" in done.stderr
    assert "DefaultTime of partition main" in root_shell.run(*options).stderr
    for partition in (brief, f"{brief},main", f"main,{brief}"):
        done = root_shell.run(*options, "--partition", partition)
        assert done.returncode == 2
        assert "a task's limit would be 1:00 (DefaultTime of partition brief)" in done.stderr
        assert "Ask with --time for at least 3 minutes" in done.stderr
    assert root_shell.run(*options, "--partition", brief, "--time", "5").stderr == ""
    over = root_shell.run(*options, "--partition", brief, "--time", "11").stderr
    assert "--time is over the limit of partition brief (10:00)" in over
    for limit in ("UNLIMITED", "-1"):
        assert f"#SBATCH --time={limit}" in root_shell.ok(*options, "--time", limit)


def test_agents_know_the_limit_that_slurm_gave_and_say_that_it_is_near(root_shell: Shell, brief: str) -> None:
    """It may be less than `--time`, as with `time-min`, or if somebody changes it before the job begins."""
    sweep = root_shell.sweep("import time; time.sleep(600)", parameters={"x": {"values": [1, 2]}})
    options = ("--partition", brief, "--array", "1", "--time", "9", "--sbatch", "hold")
    submitted = root_shell.json(sweep, "--offline", "--executor", "slurm", *options)
    for change in (("update", f"JobId={submitted['jobs'][0]}", "TimeLimit=3"), ("release", submitted["jobs"][0])):
        assert root_shell.call("scontrol", *change).returncode == 0
    (cut,) = wait_until(
        lambda: root_shell.events(submitted["id"], "run_finished"), what="the limit is near", timeout_s=300
    )
    assert cut["reason"] == "the task's time limit is near"
    assert cut["seconds"] < 150
    assert root_shell.json("status", submitted["id"])["cuts"] == 1
    root_shell.ok("cancel", submitted["id"])
    root_shell.run("wait", submitted["id"])
