"""examples/torchrun with the real torch (`make torch`): started by torchrun and by srun, on one and two nodes."""

from __future__ import annotations

import pytest
from slurm.bed import GPU1
from support import Shell, wait_until, with_torch

pytestmark = pytest.mark.slurm

# torchrun on every node, which knows the others by what each rank is told.
EACH_NODE = (
    "exec torchrun --nnodes=$SLURM_NNODES --node-rank=$NODE_RANK --nproc-per-node=2 "
    '--master-addr=$MASTER_ADDR --master-port=$MASTER_PORT "$0" "$@"'
)


@pytest.fixture
def shell(root_shell: Shell) -> Shell:
    """Root on the login node, in a training environment with torch."""
    return with_torch(root_shell)


def torchrun(shell: Shell, **config: object) -> str:
    """The example's sweep with changes of ours."""
    shell.example("torchrun")
    script = (shell.folder / "train.py").read_text()
    command = ["${env}", "torchrun", "--standalone", "--nproc-per-node=2", "${program}", "${args}"]
    return shell.sweep(script, **{"command": command, "metric": {"name": "loss"}, **config})


@pytest.mark.parametrize("where", [("slurm", "--nodelist", GPU1), ("local",)], ids=["slurm", "local"])
def test_two_tasks_with_torchrun_share_a_node(shell: Shell, where: tuple[str, ...]) -> None:
    sweep = shell.example("torchrun")
    options = ("--offline", "--array", "2", "--gpus-per-task", "2", "--executor", *where, "--wait")
    answer = shell.json(sweep, *options, timeout_s=280, CUDA_VISIBLE_DEVICES="0,1,2,3")
    assert answer["results"]["states"] == {"finished": 2}
    assert answer["results"]["best"]["config"] == {"lr": 0.1, "world": 2}
    assert len(shell.events(answer["id"], "agent_started")) == 2


@pytest.mark.parametrize(
    ("options", "command"),
    [(("--ranks-per-node", "2"), []), ((), ["sh", "-c", EACH_NODE, "${program}", "${args}"])],
    ids=["srun", "torchrun"],
)
def test_two_nodes_train_together_in_each_of_two_tasks(
    shell: Shell, options: tuple[str, ...], command: list[str]
) -> None:
    sweep = torchrun(shell, parameters={"lr": {"values": [0.01, 0.1]}}, command=command)
    asked = ("--offline", "--executor", "slurm", "--array", "2", "--nodes", "2", "--gpus-per-task", "2", *options)
    answer = shell.json(sweep, *asked, "--wait", timeout_s=280)
    assert answer["results"]["states"] == {"finished": 2}
    assert answer["results"]["best"]["config"] == {"lr": 0.1, "world": 4}


def test_a_cancelled_run_behind_torchrun_is_killed_with_all_that_it_has_logged(shell: Shell) -> None:
    sweep = torchrun(shell, parameters={"lr": {"value": 0.1}, "steps": {"value": 100_000}})
    submitted = shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")
    (log,) = wait_until(
        lambda: list((shell.submission(submitted["id"]) / "runs").glob("*.log")), what="the run has begun to print"
    )
    wait_until(lambda: "View run" in log.read_text(), what="the run is known to the server")
    shell.ok("cancel", submitted["id"])
    shell.run("wait", submitted["id"])
    assert shell.states(submitted["sweep"]) == {"killed": 1}
