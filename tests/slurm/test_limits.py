"""What a real Slurm allows: the size of an array, and how many jobs one may have queued."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
from support import Shell, wait_until

pytestmark = pytest.mark.slurm

LATER = ("--offline", "--executor", "slurm", "--sbatch", "begin=now+1hour")


@pytest.fixture
def limit_of_120(root_shell: Shell) -> Iterator[None]:
    """Root may have 120 jobs queued; the test bed's arrays have up to 101 tasks."""

    def limit(number: int) -> None:
        change = ("sacctmgr", "-i", "modify", "user", "root", "set", f"MaxSubmitJobs={number}")
        subprocess.run(change, env=dict(root_shell.env), check=True, stdout=subprocess.DEVNULL, timeout=60)

    limit(120)
    yield
    limit(-1)


def queued(shell: Shell) -> Counter[str]:
    """How many tasks of each array wait in the queue."""
    jobs = shell.call("squeue", "--noheader", "--array", "--user=root", "--format=%F", "--state=PENDING").stdout
    return Counter(jobs.split())


def arrays(answer: dict) -> Counter[str]:
    return Counter(job.partition("_")[0] for job in answer["jobs"])


def test_more_tasks_than_an_array_may_have_become_several_arrays(root_shell: Shell) -> None:
    sweep = root_shell.sweep("import time; time.sleep(2)", parameters={"x": {"values": [1, 2, 3, 4]}})
    answer = root_shell.json(sweep, "--offline", "--array", "102%2", "--time", "60", "--wait", timeout_s=240)
    assert answer["ok"], answer
    assert answer["runs_done"] == 4
    jobs = [task["job"] for task in answer["tasks"]]
    first, second = dict.fromkeys(job.partition("_")[0] for job in jobs)
    assert jobs == [f"{array}_{task}" for array in (first, second) for task in range(51)]
    # Each array has one task at a time, and takes its own out of the queue when the sweep is over.
    began = {event["job_id"].partition("_")[0] for event in root_shell.events(answer["id"], "agent_started")}
    assert began == {first, second}
    assert Counter(task["state"] for task in answer["tasks"])["cancelled"] > 90


def test_over_a_limit_the_number_that_fits_is_offered_and_taken(root_shell: Shell) -> None:
    sweep = root_shell.sweep("pass", parameters={"x": {"values": list(range(20))}})
    refused = root_shell.run(sweep, *LATER, "--qos", "limited", "--array", "12%4")
    assert refused.returncode == 6
    assert "QOSMaxSubmitJobPerUserLimit" in refused.stderr
    assert "Now 10 would be taken: --array 10, or --clip" in refused.stderr
    assert not (root_shell.folder / ".wandb-submit").exists()
    assert not queued(root_shell)

    done = root_shell.run(sweep, *LATER, "--qos", "limited", "--array", "12%4", "--clip", "--json")
    assert "--clip: 10 of the 12 array tasks" in done.stderr
    status = root_shell.json("status")
    assert len(status["tasks"]) == 10
    none = root_shell.run(sweep, *LATER, "--qos", "limited", "--array", "2", "--clip")
    assert (none.returncode, "would be taken" in none.stderr) == (6, False)
    root_shell.ok("cancel", status["id"])
    assert not queued(root_shell)


@pytest.mark.usefixtures("limit_of_120")
def test_of_several_arrays_all_or_none_are_in_the_queue(root_shell: Shell) -> None:
    # Jobs of other tests that have not quite ended count, too.
    mine = ("squeue", "--noheader", "--user=root", "--format=%i")
    wait_until(lambda: not root_shell.call(*mine).stdout.strip(), what="no job of ours is left")
    sweep = root_shell.sweep("pass", parameters={"x": {"values": list(range(200))}})
    refused = root_shell.run(sweep, *LATER, "--array", "150")
    assert refused.returncode == 6
    assert "AssocMaxSubmitJobLimit" in refused.stderr
    assert "Now 120 would be taken" in refused.stderr
    assert not list(root_shell.folder.glob(".wandb-submit/*/jobs"))
    assert not queued(root_shell)

    answer = root_shell.json(sweep, *LATER, "--array", "150", "--clip")
    assert list(arrays(answer).values()) == [60, 60]
    assert queued(root_shell) == arrays(answer)
    root_shell.ok("cancel", answer["id"])
    assert not queued(root_shell)
