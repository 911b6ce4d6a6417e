"""`wandb-submit` typed inside a Slurm job: it submits as from outside, or uses what the job has and nothing else."""

from __future__ import annotations

import json
import os

import pytest
from slurm.bed import CPU1, GPU1, GPU2
from support import Shell

pytestmark = pytest.mark.slurm

PLACE = """
import json, os
names = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID")
seen = {name: os.environ.get(name) for name in names}
seen |= {"cores": sorted(os.sched_getaffinity(0)), "node": os.uname().nodename}
json.dump(seen, open("place-" + os.environ["WANDB_RUN_ID"], "w"))
"""


def places(shell: Shell) -> list[dict]:
    return [json.loads(path.read_text()) for path in shell.folder.glob("place-*")]


@pytest.mark.parametrize("inside", [("salloc", "--quiet"), ("srun", "--cpu-bind=none", "--mem=512M")])
def test_a_job_may_submit_as_a_login_node_does(root_shell: Shell, inside: tuple[str, ...]) -> None:
    sweep = root_shell.sweep(PLACE, parameters={"x": {"values": [1, 2]}})
    command = (
        "wandb-submit",
        sweep,
        "--offline",
        "--executor",
        "slurm",
        "--array",
        "2",
        "--mem",
        "1G",
        "--wait",
        "--json",
    )
    done = root_shell.call(*inside, "--ntasks=1", "--partition=main", f"--nodelist={CPU1}", *command, timeout_s=240)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["ok"], answer["runs_done"]) == (True, 2)
    assert {place["SLURM_ARRAY_JOB_ID"] for place in places(root_shell)} == {
        answer["tasks"][0]["job"].partition("_")[0]
    }


def test_local_agents_in_a_job_have_the_jobs_gpus_and_cores(root_shell: Shell) -> None:
    sweep = root_shell.sweep(PLACE, parameters={"x": {"values": [1, 2, 3, 4]}})
    script = f'echo "$CUDA_VISIBLE_DEVICES" >mine; exec wandb-submit {sweep} --offline --gpus-per-task 1 --json'
    done = root_shell.call("srun", "--ntasks=1", "--gpus=2", "--nodes=1", "sh", "-c", script, timeout_s=240)
    assert done.returncode == 0, done.stderr
    assert (root_shell.folder / "mine").read_text() in {
        f"{first},{second}\n" for first in range(4) for second in range(first + 1, 4)
    }
    assert "--array was not given: 2 array tasks" in done.stderr
    found = places(root_shell)
    own = set((root_shell.folder / "mine").read_text().strip().split(","))
    assert {place["CUDA_VISIBLE_DEVICES"] for place in found} == own
    assert {place["node"] for place in found} <= {GPU1, GPU2}
    # The job has one core, and the cluster binds nothing to it.
    (cores,) = {tuple(place["cores"]) for place in found}
    assert len(cores) == 1 <= len(os.sched_getaffinity(0))


def test_a_job_without_gpus_has_none_for_local_agents(root_shell: Shell) -> None:
    sweep = root_shell.sweep("pass", parameters={"x": {"value": 1}})
    options = ("wandb-submit", sweep, "--offline", "--executor", "local", "--gpus-per-task", "1")
    none = root_shell.call("srun", "--ntasks=1", f"--nodelist={GPU1}", *options)
    assert "more than this machine has: 0 GPUs" in none.stderr
    elsewhere = root_shell.call("salloc", "--quiet", "--ntasks=1", *options)
    assert elsewhere.returncode == 6
    assert "is not on its node" in elsewhere.stderr
