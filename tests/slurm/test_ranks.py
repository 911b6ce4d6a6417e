"""Runs of several ranks on a real Slurm cluster: their places, their ends, and what is left of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from slurm.bed import GPU1, GPU2
from support import Shell, wait_until

pytestmark = pytest.mark.slurm

TWO_NODES = ("--offline", "--executor", "slurm", "--partition", "gpu", "--nodes", "2", "--ranks-per-node", "2")

# What a rank sees; the ranks of a run wait for one another, so that all of them are there at a time.
PLACE = """
import json, os, pathlib, sys, time
names = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
         "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "WANDB_RUN_ID", "SLURM_STEP_GPUS")
seen = {name: os.environ.get(name) for name in names}
seen |= {"node": os.uname().nodename, "argv": sys.argv[1:], "started": time.time()}
seen["config"] = pathlib.Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text()
key = os.environ["WANDB_API_KEY"].encode()
seen["told"] = []
for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        seen["told"] += [str(entry)] if key in entry.read_bytes() else []
    except OSError:
        pass
mine = pathlib.Path(f"place-{os.environ['WANDB_RUN_ID']}-{os.environ['RANK']}.json")
mine.with_suffix(".new").write_text(json.dumps(seen))
mine.with_suffix(".new").rename(mine)
while len(list(pathlib.Path().glob("place-*.json"))) < 8:
    time.sleep(0.1)
"""

# Rank 0 has a run, and all of them work until they are told to end.
WORK = """
import os, pathlib, signal, sys, time
rank, mark = os.environ["RANK"], os.environ["WANDB_RUN_ID"] + "-" + os.environ["RANK"]
if rank == "0":
    import wandb
    run = wandb.init()
    run.log({"loss": 1})
if rank in os.environ.get("DEAF", ""):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path(f"at-work-{mark}").write_text(str(os.getpid()))
try:
    while not pathlib.Path(f"fail-{rank}").exists():
        time.sleep(0.1)
    sys.exit(40 + int(rank))
except KeyboardInterrupt:
    pathlib.Path(f"told-{mark}").touch()
    raise
"""


def at_work(shell: Shell, runs: int = 1) -> list[int]:
    """The processes of all ranks, once they are at work."""
    marks = wait_until(
        lambda: (
            len(found := [path for path in shell.folder.glob("at-work-*") if path.read_text()]) >= 4 * runs and found
        ),
        what="all ranks are at work",
    )
    return [int(path.read_text()) for path in marks]


def told(shell: Shell) -> list[str]:
    """The ranks that have been told to end."""
    return sorted(path.name[-1] for path in shell.folder.glob("told-*"))


def remaining(runs: Sequence[str]) -> list[str]:
    """The commands that are left of some runs, on all nodes, which are on this machine."""
    marks = {f"WANDB_RUN_ID={run}".encode() for run in runs}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if marks & set((entry / "environ").read_bytes().split(b"\0")):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def runs_of(shell: Shell, submission: str) -> list[str]:
    return [event["run"] for event in shell.events(submission, "run_started")]


def nothing_remains(shell: Shell, submission: str) -> None:
    runs = runs_of(shell, submission)
    assert runs
    wait_until(lambda: not remaining(runs), what=f"nothing remains of {runs}, such as {remaining(runs)}")


def test_every_rank_knows_its_place_and_two_tasks_share_the_nodes(root_shell: Shell) -> None:
    sweep = root_shell.sweep(PLACE, parameters={"x": {"values": [1, 2]}})
    options = ("--array", "2", "--gpus-per-task", "2", "--cpus-per-task", "2", "--mem", "1G", "--time", "1:00:00")
    answer = root_shell.json(sweep, *TWO_NODES, *options, "--wait", timeout_s=240)
    assert answer["ok"], answer
    places = [json.loads(path.read_text()) for path in root_shell.folder.glob("place-*.json")]
    runs = {place["WANDB_RUN_ID"] for place in places}
    assert len(runs) == 2
    for run in runs:
        own = sorted((place for place in places if place["WANDB_RUN_ID"] == run), key=lambda place: place["RANK"])
        ranks = [(place["RANK"], place["NODE_RANK"], place["LOCAL_RANK"], place["node"]) for place in own]
        assert ranks == [
            ("0", "0", "0", GPU1),
            ("1", "0", "1", GPU1),
            ("2", "1", "0", GPU2),
            ("3", "1", "1", GPU2),
        ]
        assert {(place["WORLD_SIZE"], place["LOCAL_WORLD_SIZE"]) for place in own} == {("4", "2")}
        # Every rank sees all GPUs of its task on its node, as with torchrun, and has its share of the cores.
        assert {len(place["CUDA_VISIBLE_DEVICES"].split(",")) for place in own} == {2}
        assert {place["OMP_NUM_THREADS"] for place in own} == {"1"}
        assert len({place["config"] for place in own}) == 1
        assert "x:" in own[0]["config"]
        assert len({tuple(place["argv"]) for place in own}) == 1
        assert len({place["MASTER_PORT"] for place in own}) == 1
    assert len({place["MASTER_PORT"] for place in places}) == 2
    assert len({(place["node"], place["SLURM_STEP_GPUS"]) for place in places}) == 4
    assert [place["told"] for place in places] == [[]] * 8
    # One agent per task asks the server.
    assert len(root_shell.events(answer["id"], "agent_registered")) == 2
    key = next((root_shell.folder / ".wandb-submit").glob("server/*key*")).read_text().strip()
    written = (root_shell.submission(answer["id"])).rglob("*")
    assert [path for path in written if path.is_file() and key.encode() in path.read_bytes()] == []


def test_the_example_trains_on_two_nodes_and_logs_one_run(root_shell: Shell) -> None:
    sweep = root_shell.example("multinode")
    answer = root_shell.json(sweep, *TWO_NODES, "--array", "1", "--gpus-per-task", "4", "--wait", timeout_s=240)
    assert answer["results"]["states"] == {"finished": 2}
    assert answer["results"]["best"]["config"] == {"lr": 0.1, "world": 4}
    for run in runs_of(root_shell, answer["id"]):
        lines = (root_shell.submission(answer["id"]) / "runs" / f"{run}.log").read_text().splitlines()
        ends = sorted(line for line in lines if " of 4 on " in line)
        assert [line.partition(" on ")[0] for line in ends] == [f"{rank}: rank {rank} of 4" for rank in range(4)]
        assert len({line.rpartition(" ")[2] for line in ends}) == 1


def test_a_cancelled_task_lets_all_ranks_end_their_run_cleanly(root_shell: Shell) -> None:
    sweep = root_shell.sweep(WORK, parameters={"x": {"values": [1, 2]}})
    submitted = root_shell.json(sweep, *TWO_NODES, "--array", "1")
    at_work(root_shell)
    root_shell.ok("cancel", submitted["id"])
    root_shell.run("wait", submitted["id"])
    assert told(root_shell) == ["0", "1", "2", "3"]
    assert root_shell.states(submitted["sweep"]) == {"killed": 1}
    (end,) = root_shell.events(submitted["id"], "run_finished")
    assert end["reason"] == "the submission was cancelled"
    nothing_remains(root_shell, submitted["id"])


def test_a_rank_that_fails_ends_the_others_and_its_exit_status_is_the_runs(root_shell: Shell) -> None:
    sweep = root_shell.sweep(WORK, parameters={"x": {"value": 1}})
    submitted = root_shell.json(sweep, *TWO_NODES, "--array", "1")
    at_work(root_shell)
    (root_shell.folder / "fail-3").touch()
    root_shell.run("wait", submitted["id"])
    (end,) = root_shell.events(submitted["id"], "run_finished")
    assert (end["exit_code"], end["reason"]) == (43, None)
    assert told(root_shell) == ["0", "1", "2"]
    assert root_shell.states(submitted["sweep"]) == {"killed": 1}
    log = root_shell.ok("logs", submitted["id"], end["run"])
    assert f"wandb-submit: rank 3 on {GPU2}: ended with status 43" in log


def test_a_run_that_is_stopped_at_its_server_has_not_failed_although_one_rank_obeys_first(root_shell: Shell) -> None:
    sweep = root_shell.sweep(WORK, parameters={"x": {"values": [1]}})
    soon = ("--env", "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL=1")
    submitted = root_shell.json(sweep, *TWO_NODES, "--array", "1", *soon)
    at_work(root_shell)
    root_shell.wandb_python("import wandb\nfor run in wandb.Api().runs('local/tests'): run.stop()")
    waited = root_shell.run("wait", submitted["id"], "--json", timeout_s=240)
    answer = json.loads(waited.stdout)
    assert (waited.returncode, answer["runs_failed"], answer["runs_stopped"]) == (0, 0, 1), waited.stderr
    (ended,) = root_shell.events(submitted["id"], "run_finished")
    assert ended["reason"] == "the server asked for it"
    assert len(told(root_shell)) == 4


def test_near_the_time_limit_a_rank_that_does_not_listen_is_killed_and_the_task_comes_back(root_shell: Shell) -> None:
    sweep = root_shell.sweep(WORK, parameters={"x": {"value": 1}})
    options = ("--array", "1", "--grace", "3", "--time", "60", "--env", "DEAF=2")
    submitted = root_shell.json(sweep, *TWO_NODES, *options)
    before = at_work(root_shell)
    root_shell.call("scancel", "--signal=USR2", submitted["jobs"][0])
    wait_until(lambda: root_shell.events(submitted["id"], "run_finished"), what="the run has ended")
    assert told(root_shell) == ["0", "1", "3"]
    assert [pid for pid in before if Path(f"/proc/{pid}").exists()] == []
    started = wait_until(
        lambda: (found := root_shell.events(submitted["id"], "agent_started"))[1:] and found,
        what="the task has been requeued and started again",
    )
    assert [event["restarts"] for event in started] == [0, 1]
    root_shell.ok("cancel", submitted["id"])
    root_shell.run("wait", submitted["id"])
    nothing_remains(root_shell, submitted["id"])


def test_an_agent_that_is_killed_takes_all_ranks_with_it(root_shell: Shell) -> None:
    sweep = root_shell.sweep(WORK, parameters={"x": {"value": 1}})
    submitted = root_shell.json(sweep, *TWO_NODES, "--array", "1", "--env", "DEAF=0123")
    at_work(root_shell)
    (agent,) = root_shell.events(submitted["id"], "agent_started")
    os.kill(agent["pid"], signal.SIGKILL)
    root_shell.run("wait", submitted["id"])
    nothing_remains(root_shell, submitted["id"])


def test_a_second_node_without_its_gpus_is_named_before_a_run_is_taken(root_shell: Shell) -> None:
    prolog = root_shell.folder / "prolog"
    prolog.write_text(f'#!/bin/sh\n[ "$SLURMD_NODENAME" != {GPU2} ] || echo unset CUDA_VISIBLE_DEVICES\n')
    prolog.chmod(0o755)
    sweep = root_shell.sweep("pass", parameters={"x": {"value": 1}})
    setup = f"export SLURM_TASK_PROLOG={prolog}"
    done = root_shell.run(
        *(sweep, *TWO_NODES, "--array", "1", "--gpus-per-task", "2", "--setup", setup, "--wait"), timeout_s=240
    )
    assert done.returncode == 1, done.stderr
    (stopped,) = root_shell.events(root_shell.json("status")["id"])
    assert (stopped["event"], stopped["ok"]) == ("agent_stopped", False)
    assert f"on {GPU2} the task asked for 2 GPUs and sees none" in stopped["reason"]


def test_one_node_may_have_several_ranks_too(root_shell: Shell) -> None:
    sweep = root_shell.example("multinode")
    options = ("--offline", "--executor", "slurm", "--array", "1", "--ranks-per-node", "3", "--gpus-per-task", "3")
    answer = root_shell.json(sweep, *options, "--wait", timeout_s=240)
    assert answer["results"]["states"] == {"finished": 2}
    assert answer["results"]["best"]["config"]["world"] == 3


def test_a_function_is_called_in_each_rank_by_a_normal_user_too(user_shell: Shell) -> None:
    (user_shell.folder / "submit.py").write_text(
        """
import json, os, wandb, wandb_submit

def train():
    rank = os.environ["RANK"]
    if rank == "0":
        with wandb.init() as run:
            run.log({"loss": run.config.x})
    print(json.dumps([rank, os.uname().nodename, os.getuid() != 0]))

config = {"method": "grid", "project": "tests", "metric": {"name": "loss"}, "parameters": {"x": {"value": 1}}}
submission = wandb_submit.submit(
    config, function=train, array=1, nodes=2, gpus_per_task=1, executor="slurm", time="60", offline=True,
)
snapshot = submission.wait()
(run,) = submission.runs()
print(json.dumps([snapshot.is_well, submission.results().states, submission.logs(run.id)]))
"""
    )
    done = user_shell.call("python", "submit.py", timeout_s=240)
    assert done.returncode == 0, done.stderr
    is_well, states, log = json.loads(done.stdout.splitlines()[-1])
    assert (is_well, states) == (True, {"finished": 1}), log
    said = sorted(line for line in log.splitlines() if line[1:4] == ": [")
    assert said == [f'0: ["0", "{GPU1}", true]', f'1: ["1", "{GPU2}", true]']
