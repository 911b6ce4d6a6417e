"""Runs of several ranks: what goes together, and the process that looks after one of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wandb_submit.options import ranks
from wandb_submit.spec import ArraySpec, Preload, Ranks, SubmissionSpec
from wandb_submit.system.process import python_argv, wait_until

SLURMS = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_NNODES": "2",
    "SLURM_STEP_ID": "3",
    "SLURM_JOB_ID": "7",
    "WANDB_RUN_ID": "r1",
}
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


def spec(**changes: Any) -> SubmissionSpec:
    asked = {
        "executor": "slurm",
        "array": ArraySpec(count=1),
        "workdir": Path("/w"),
        "ranks": Ranks(nodes=2, per_node=4),
    }
    return SubmissionSpec(**{**asked, **changes})


@pytest.mark.parametrize(
    ("nodes", "per_node", "expected"),
    [
        (None, None, None),
        (1, None, None),
        (2, None, Ranks(nodes=2, per_node=1)),
        (None, 4, Ranks(nodes=1, per_node=4)),
        (1, 1, Ranks(nodes=1, per_node=1)),
        (2, 4, Ranks(nodes=2, per_node=4)),
    ],
)
def test_several_nodes_have_one_rank_each_unless_it_is_said(
    nodes: int | None, per_node: int | None, expected: Ranks | None
) -> None:
    assert ranks.ranks(nodes, per_node) == expected


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"executor": "local"}, "--nodes 2: one machine is one node; to train on several GPUs"),
        ({"executor": "local", "ranks": Ranks(nodes=1, per_node=4)}, "torchrun, --standalone, --nproc-per-node=4"),
        ({"agents_per_task": 2}, "leaves nothing for --agents-per-task 2"),
        ({"agent": "wandb"}, "leave --agent out"),
        ({"preload": Preload(modules=("torch",))}, "cannot be forked from a process with --preload"),
        ({"gpus_per_task": 1}, "--gpus-per-task 1: these are the GPUs of each node, and cannot be shared evenly by 4"),
        ({"cpus_per_task": 6}, "ask for 8"),
        ({"sbatch": {"gpus-per-node": "4"}}, "--sbatch gpus-per-node: say by --gpus-per-task"),
        ({"sbatch": {"gpus": "8"}}, "--sbatch gpus: say by --gpus-per-task"),
    ],
)
def test_what_does_not_go_together_with_ranks_is_told(changes: dict[str, Any], complaint: str) -> None:
    (problem,) = ranks.problems(spec(**changes))
    assert complaint in problem


def test_all_of_it_is_told_at_once() -> None:
    assert len(list(ranks.problems(spec(agents_per_task=2, agent="wandb", gpus_per_task=3)))) == 3


def test_what_goes_together_is_explained() -> None:
    whole = spec(gpus_per_task=4, cpus_per_task=32, preload=Preload(modules=("torch",), required=False))
    assert list(ranks.problems(whole)) == []
    assert ranks.words(whole) == [
        "every run is 8 processes, 2 nodes with 4 ranks on each; a rank's share is 1 GPU and 8 cores"
    ]
    assert ranks.words(spec(ranks=Ranks(nodes=1, per_node=2))) == ["every run is 2 processes, ranks"]
    assert ranks.words(spec(ranks=None, gpus_per_task=1)) == []


class Rank:
    """A rank's process, with the agent at the other end of its standard input."""

    def __init__(self, code: str, **env: str) -> None:
        argv = python_argv("wandb_submit.agent.runs.rank", sys.executable, "-I", "-S", "-c", code)
        pipe = subprocess.PIPE
        environment = {**SLURMS, "PATH": "/usr/bin:/bin", **env}
        self.process = subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def end(self, words: str | None = None) -> tuple[int, str, str]:
        """Says something, or closes its input; returns its exit status and what came out."""
        if words is None:
            said, errors = self.process.communicate(timeout=60)
        else:
            assert self.process.stdin is not None
            self.process.stdin.write(words)
            self.process.stdin.flush()
            self.process.wait(timeout=60)
            said, errors = self.process.communicate(timeout=60)
        return self.process.returncode, said, errors


def test_a_rank_tells_its_program_its_place() -> None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MKL_NUM_THREADS")
    code = f"import os, sys; print(*(os.environ[name] for name in {names}), repr(sys.stdin.read())); print('ready')"
    rank = Rank(code, SLURM_CPUS_PER_TASK="1")
    assert rank.process.stdout is not None
    assert rank.process.stdout.readline() == "5 8 1 4 1 1 1 ''\n"
    rank.until_ready()
    rank.process.wait(timeout=60)
    assert rank.end() == (0, "", "")


def test_a_rank_that_fails_says_so_apart_from_what_its_program_prints() -> None:
    rank = Rank("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    rank.process.wait(timeout=60)
    status, said, errors = rank.end()
    assert (status, sorted(said.split())) == (3, ["err", "out"])
    assert errors.startswith("wandb-submit: rank 5 on ")
    assert errors.endswith(": ended with status 3\n")


def test_a_rank_whose_program_is_not_there_says_so() -> None:
    argv = python_argv("wandb_submit.agent.runs.rank", "no-such-program")
    done = subprocess.run(argv, env=SLURMS, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 127
    assert "no-such-program: No such file or directory: ended with status 127" in done.stderr


def test_a_line_asks_a_rank_to_end_and_signals_do_not() -> None:
    code = "import time\nprint('ready', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('asked')"
    rank = Rank(code)
    rank.until_ready()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGCONT):
        rank.process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        rank.process.wait(timeout=0.5)
    assert rank.end("stop\n") == (0, "asked\n", "")


def test_the_end_of_the_agent_kills_a_rank_with_all_that_it_has_started() -> None:
    rank = Rank(f"import subprocess; print(subprocess.Popen(['sleep', '61'], start_new_session=True).pid); {DEAF}")
    assert rank.process.stdout is not None
    child = Path("/proc", rank.process.stdout.readline().strip())
    rank.until_ready()
    status, _, errors = rank.end()
    assert status == 128 + signal.SIGKILL
    assert errors.endswith(f"ended with status {-signal.SIGKILL}\n")
    assert wait_until(lambda: not (child / "exe").exists(), timeout_s=60)
