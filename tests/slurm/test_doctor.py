"""`wandb-submit doctor` on a real cluster."""

from __future__ import annotations

import json

import pytest
from slurm.bed import GPU1, GPU2
from support import Shell

pytestmark = pytest.mark.slurm


def test_the_cluster_is_described_and_probed(root_shell: Shell) -> None:
    root_shell.ok("server", "start")  # stands for a W&B that the nodes reach
    point = 'eval "$(wandb-submit server env)" && exec wandb-submit doctor --probe --partition=gpu --json'
    done = root_shell.call("sh", "-c", point, timeout_s=240)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [(finding["topic"], finding["words"]) for finding in json.loads(done.stdout)]
    words = dict(found)
    assert "its controller answers" in words["Slurm"]
    assert words["arrays"].startswith("MaxArraySize 101")
    assert words["accounting"] == "there"
    assert words["limits"] == "QOS limited: MaxJobsPerUser 2, MaxSubmitJobsPerUser 10"
    assert words["partition gpu"].startswith("16 cores, 64 GB, gpu:4; time limit")
    assert "partition short" not in words
    assert "KillWait" in words["grace"]
    assert "answers and knows you" in words["W&B"]
    node = [said for topic, said in found if topic == "from a node"]
    assert [said.split()[1] for said in node] == ["runs", "sees", "can", "reaches"]
    assert {said.split()[0] for said in node} <= {GPU1, GPU2}
    assert not list(root_shell.folder.glob(".wandb-submit/.wandb-submit-probe-*"))


def test_a_wandb_dir_that_a_node_cannot_write_to_is_told(root_shell: Shell) -> None:
    (root_shell.folder / "file").touch()
    below = root_shell.folder / "file" / "wandb"
    options = ("doctor", "--probe", "--partition=gpu", "--json")
    done = root_shell.run(*options, WANDB_DIR=str(below), timeout_s=240)
    assert done.returncode == 1, done.stdout + done.stderr
    words = [
        finding["words"].partition(" ")[2] for finding in json.loads(done.stdout) if finding["verdict"] == "failed"
    ]
    assert f"cannot write wandb's files and runs' configurations below {below}" in words
