"""A sweep on a real Slurm cluster: one array, Slurm's own devices, every run once, and ends that lose nothing."""

from __future__ import annotations

import json
import os
import re

import pytest
from slurm.bed import GPU1, GPU2
from support import ROOT, Shell, overlapping, undisturbed, wait_until

pytestmark = pytest.mark.slurm

RECORD = """
import argparse, json, os, socket, time
started = time.time()
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=int)
x = parser.parse_args().x
import wandb
with wandb.init() as run:
    run.log({"loss": (x - 5) ** 2})
    place = {"x": x, "cuda": os.environ["CUDA_VISIBLE_DEVICES"], "node": socket.gethostname(), "user": os.getuid()}
    run_id = run.id
with open(f"place-{run_id}.json", "w") as file:
    json.dump({**place, "started": started, "ended": time.time()}, file)
"""

SLEEP = "import os, time\nopen('started-' + os.environ['WANDB_RUN_ID'], 'w').close()\ntime.sleep(600)\n"


def submit_and_check(shell: Shell) -> list[dict]:
    """Runs a grid of twelve on six tasks with one GPU each; returns where each run was."""
    sweep = shell.sweep(RECORD, parameters={"x": {"values": list(range(12))}}, metric={"name": "loss"})
    answer = shell.json(
        *(sweep, "--offline", "--executor", "slurm", "--partition", "gpu", "--wait"),
        *("--array", "6", "--gpus-per-task", "1", "--cpus-per-task", "2", "--mem", "1G", "--time", "1:00:00"),
        timeout_s=240,
    )
    seen = [json.loads(path.read_text()) for path in shell.folder.glob("place-*.json")]

    assert answer["ok"], answer
    assert answer["results"]["states"] == {"finished": 12}
    assert answer["results"]["best"]["metric"] == 0
    assert sorted(place["x"] for place in seen) == list(range(12))
    for place in seen:
        assert place["cuda"] in {"0", "1", "2", "3"}
        same = [(p["started"], p["ended"]) for p in seen if (p["node"], p["cuda"]) == (place["node"], place["cuda"])]
        assert not overlapping(same)

    # One array, and the events tell each run's device, node and job.
    (array,) = {task["job"].partition("_")[0] for task in answer["tasks"]}
    assert [task["job"] for task in answer["tasks"]] == [f"{array}_{index}" for index in range(6)]
    agents = {event["agent"]: event for event in shell.events(answer["id"], "agent_started")}
    for event in shell.events(answer["id"], "run_started"):
        place = json.loads((shell.folder / f"place-{event['run']}.json").read_text())
        agent = agents[event["agent"]]
        assert (agent["gpus"], agent["host"]) == (place["cuda"], place["node"])
        assert agent["job_id"] == f"{array}_{agent['task']}"
    assert {agent["host"] for agent in agents.values()} == {GPU1, GPU2}
    return seen


def test_six_tasks_on_two_gpu_nodes_as_root(root_shell: Shell) -> None:
    assert {place["user"] for place in submit_and_check(root_shell)} == {0}


def test_six_tasks_on_two_gpu_nodes_as_a_normal_user(user_shell: Shell) -> None:
    (user,) = {place["user"] for place in submit_and_check(user_shell)}
    assert user != 0
    private = user_shell.folder / ".wandb-submit"
    assert all(path.stat().st_mode & 0o077 == 0 for path in private.glob("*/") if path.is_dir())


def test_status_logs_and_cancel_of_a_running_array(root_shell: Shell) -> None:
    sweep = root_shell.sweep(SLEEP, parameters={"x": {"values": [1, 2, 3, 4]}})
    submitted = root_shell.json(sweep, "--offline", "--array", "3%2", "--gpus-per-task", "1", "--time", "60")
    wait_until(lambda: len(root_shell.events(submitted["id"], "run_started")) == 2, what="two runs have started")
    status = root_shell.json("status", submitted["id"])
    assert [task["state"] for task in status["tasks"]] == ["running", "running", "pending"]
    assert status["tasks"][2]["detail"] == "JobArrayTaskLimit"
    assert all(task["node"] and task["gpus"] and task["running"] for task in status["tasks"][:2])
    assert "registered with sweep" in root_shell.ok("logs", submitted["id"], "--task", "0")

    root_shell.ok("cancel", submitted["id"])
    done = root_shell.run("wait", submitted["id"], "--json")
    assert done.returncode == 1
    assert [task["state"] for task in json.loads(done.stdout)["tasks"]] == ["cancelled"] * 3
    ends = root_shell.events(submitted["id"], "run_finished")
    assert [event["reason"] for event in ends] == ["the submission was cancelled"] * 2


def test_a_requeued_task_goes_on_with_the_sweep(root_shell: Shell) -> None:
    sweep = root_shell.sweep("import time; time.sleep(2)", parameters={"x": {"values": list(range(4))}})
    submitted = root_shell.json(sweep, "--offline", "--array", "1", "--time", "60")
    wait_until(lambda: root_shell.events(submitted["id"], "run_started"), what="a run has started")
    root_shell.call("scancel", "--signal=USR2", submitted["jobs"][0])
    started = wait_until(
        lambda: (found := root_shell.events(submitted["id"], "agent_started"))[1:] and found,
        what="the task has been requeued and started again",
    )
    assert [event["restarts"] for event in started] == [0, 1]
    answer = root_shell.json("wait", submitted["id"])
    assert answer["ok"]
    # The run that was cut short before it had begun for the server is there twice: it was handed out again.
    ends = root_shell.events(submitted["id"], "run_finished")
    assert len(ends) == 5
    assert len({end["run"] for end in ends if end["exit_code"] == 0}) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--partition", "nope"), "see --partition (here: main (default), gpu, short, high, preemptible)"),
        (("--account", "nope"), "see --account (yours: "),
        (("--qos", "nope"), "see --qos (yours: high, limited, normal, preemptible)"),
        (("--gpus-per-task", "5", "--partition", "gpu"), "(nodes of gpu: 16 cores, 64 GB, gpu:4)"),
        (("--gpus-per-task", "a100:1"), "(nodes here: 16 cores, 64 GB; 16 cores, 64 GB, gpu:4)"),
        (("--mem", "900G"), "--mem"),
        (("--constraint", "a|b"), "see --constraint"),
        (("--nodelist", "nowhere"), "see --nodelist"),
        (("--sbatch", "no-such-option=1"), "does not know"),
    ],
)
def test_a_refused_job_is_one_line_and_leaves_nothing(root_shell: Shell, options: tuple[str, ...], words: str) -> None:
    sweep = root_shell.sweep("pass", parameters={"x": {"value": 1}})
    before = root_shell.call("squeue", "--noheader", "--format=%i").stdout.split()
    done = root_shell.run(sweep, "--offline", "--executor", "slurm", "--array", "2", *options)
    assert done.returncode == 6, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert line.startswith("Error: Slurm refuses the job: ")
    assert words in line
    assert not (root_shell.folder / ".wandb-submit").exists()
    assert set(root_shell.call("squeue", "--noheader", "--format=%i").stdout.split()) <= set(before)


def test_a_time_limit_over_the_partitions_is_told_before_it_waits_for_ever(root_shell: Shell) -> None:
    sweep = root_shell.sweep("pass", parameters={"x": {"value": 1}})
    options = (sweep, "--offline", "--executor", "slurm", "--array", "0-1%1", "--time", "1-02:00:00", "--dry-run")
    over = root_shell.run(*options, "--partition", "short")
    assert "note: --time is over the limit of partition short (5:00)" in over.stderr
    assert "#SBATCH --time=1-02:00:00\n" in over.stdout
    assert "#SBATCH --array=0-1%1\n" in over.stdout
    for partition in ((), ("--partition", "gpu"), ("--partition", "short,gpu")):
        within = root_shell.run(*options, *partition)
        assert (within.returncode, "over the limit" in within.stderr) == (0, False)


def test_dry_run_prints_the_script_that_is_then_submitted(root_shell: Shell) -> None:
    sweep = root_shell.sweep("pass", parameters={"x": {"value": 1}})
    options = (
        sweep,
        "--offline",
        "--array",
        "2",
        "--gpus-per-task",
        "1",
        "--constraint",
        "",
        "--sbatch",
        "comment=a b",
    )
    options = tuple(option for option in options if option not in ("--constraint", ""))
    shown = root_shell.ok(*options, "--dry-run")
    assert not (root_shell.folder / ".wandb-submit").exists()
    submitted = root_shell.json(*options, "--wait")
    (script,) = (root_shell.submission(submitted["id"]) / "jobs").glob("*_submission.sh")
    (shown_id,) = set(re.findall(r"/\.wandb-submit/(\w+)/", shown))
    expected = shown.replace(shown_id, submitted["id"]).replace("SWEEP_ID", submitted["sweep"].rpartition("/")[2])
    assert script.read_text() == expected.rstrip("\n") + "\n"


def test_what_is_asked_for_wins_over_variables_of_sbatch(root_shell: Shell) -> None:
    sweep = root_shell.sweep(SLEEP, parameters={"x": {"value": 1}})
    options = ("--offline", "--array", "1", "--partition", "high", "--time", "60")
    variables = {"SBATCH_PARTITION": "short", "SBATCH_TIMELIMIT": "3", "SBATCH_ARRAY_INX": "0-50"}
    submitted = root_shell.json(sweep, *options, **variables)
    queued = root_shell.call("squeue", "--noheader", "--format=%P %l", "--jobs", submitted["jobs"][0]).stdout
    assert queued.split() == ["high", "1:00:00"]
    root_shell.ok("cancel", submitted["id"])


@pytest.mark.parametrize(
    "options", [("--setup", "export HERE=/no", "--python", '"$HERE/such/python" -u'), ("--python", "/no/such/python")]
)
def test_a_python_that_a_node_has_not_takes_no_run(options: tuple[str, ...], root_shell: Shell) -> None:
    sweep = root_shell.sweep(RECORD, parameters={"x": {"values": [1, 2]}})
    done = root_shell.run(sweep, "--offline", "--array", "1", *options, "--wait", "--json")
    answer = json.loads(done.stdout)
    (task,) = answer["tasks"]
    assert (done.returncode, task["state"], answer["runs_done"]) == (1, "failed", 0)
    assert task["detail"].startswith(
        f"no run can be started: --python {options[-1]!r}: there is no file /no/such/python"
    )
    assert answer["results"]["states"] == {}


def test_a_folder_with_a_hostile_name_works(root_shell: Shell) -> None:
    folder = root_shell.folder / 'it\'s a "folder" with $HOME; and blanks'
    folder.mkdir()
    shell = Shell(folder=folder, env=root_shell.env)
    sweep = shell.sweep("pass", parameters={"x": {"values": [1, 2]}})
    answer = shell.json(sweep, "--offline", "--array", "2", "--wait")
    assert answer["ok"]
    assert answer["runs_done"] == 2
    shell.leave()


def test_a_preempted_task_is_requeued_also_without_a_signal_of_its_own(root_shell: Shell) -> None:
    """Slurm tells preemption by the SIGTERM of `scancel`, unless its configuration says otherwise."""
    script = "import os, time\nopen('go-' + os.environ['WANDB_RUN_ID'], 'w').close()\ntime.sleep(20)\n"
    sweep = root_shell.sweep(script, parameters={"x": {"values": [1, 2]}})
    submitted = root_shell.json(
        *(sweep, "--offline", "--array", "1", "--gpus-per-task", "4", "--time", "60"),
        *("--partition", "preemptible", "--nodelist", GPU1),
    )
    wait_until(lambda: list(root_shell.folder.glob("go-*")), what="a run has started")
    high = ("--partition=high", f"--nodelist={GPU1}", "--gpus=4", "--nodes=1", "--time=5", "--output=/dev/null")
    root_shell.call("sbatch", *high, "--wrap", "sleep 3")
    started = wait_until(
        lambda: (found := root_shell.events(submitted["id"], "agent_started"))[1:] and found,
        what="the task has been requeued and started again",
    )
    assert [event["restarts"] for event in started] == [0, 1]
    (first, *_) = root_shell.events(submitted["id"], "run_finished")
    assert first["reason"] == "the task is preempted"
    root_shell.ok("cancel", submitted["id"])


def test_tasks_that_wait_when_the_sweep_is_over_are_taken_out_of_the_queue(root_shell: Shell) -> None:
    sweep = root_shell.sweep("pass", parameters={"x": {"values": [1, 2]}})
    answer = root_shell.json(sweep, "--offline", "--array", "5%1", "--time", "60", "--wait")
    assert answer["ok"], answer
    assert [task["state"] for task in answer["tasks"]] == ["completed"] + ["cancelled"] * 4
    assert {task["detail"] for task in answer["tasks"]} == {"the sweep is over"}
    assert len(root_shell.events(answer["id"], "agent_started")) == 1


def test_a_task_is_not_requeued_more_often_than_it_may(root_shell: Shell) -> None:
    sweep = root_shell.sweep("import time; time.sleep(600)", parameters={"x": {"values": [1, 2]}})
    submitted = root_shell.json(sweep, "--offline", "--array", "1", "--time", "60", "--max-requeues", "0")
    wait_until(lambda: root_shell.events(submitted["id"], "run_started"), what="a run has started")
    root_shell.call("scancel", "--signal=USR2", submitted["jobs"][0])
    done = root_shell.run("wait", submitted["id"], "--json")
    (task,) = json.loads(done.stdout)["tasks"]
    assert (done.returncode, task["state"]) == (1, "failed")
    assert len(root_shell.events(submitted["id"], "agent_started")) == 1
    assert "not requeued again: --max-requeues is 0" in root_shell.ok("logs", submitted["id"], "--task", "0")


def preempt(shell: Shell, job: str) -> None:
    """A job of a partition that comes first wants the whole node."""
    high = ("--partition=high", f"--nodelist={GPU1}", "--gpus=4", "--nodes=1", "--time=5", "--output=/dev/null")
    shell.call("sbatch", *high, "--wrap", "sleep 1")


def near_the_time_limit(shell: Shell, job: str) -> None:
    shell.call("scancel", "--signal=USR2", job)


def requeue(shell: Shell, job: str) -> None:
    shell.call("scontrol", "requeue", job)


def test_a_run_that_is_interrupted_in_every_way_comes_back_as_itself(root_shell: Shell) -> None:
    """`INTERRUPTIONS=10` interrupts it ten times in each way."""
    ways = [preempt, near_the_time_limit, requeue] * int(os.environ.get("INTERRUPTIONS", "1"))
    steps = 30 * len(ways)
    script = (ROOT / "examples" / "preemptible" / "train.py").read_text()
    sweep = root_shell.sweep(script, parameters={"lr": {"value": 0.1}, "steps": {"value": steps}})
    submitted = root_shell.json(
        *(sweep, "--offline", "--array", "1", "--gpus-per-task", "4", "--time", "60"),
        *("--partition", "preemptible", "--nodelist", GPU1),
    )

    def at_work(times: int) -> bool:
        """Whether the run has been started so often and has computed since."""
        started = root_shell.events(submitted["id"], "run_started")
        written = [path.stat().st_mtime for path in (root_shell.folder / "checkpoints").glob("*.json")]
        return len(started) == times and any(time > started[-1]["t"] for time in written)

    for number, interrupt in enumerate(ways, 1):
        wait_until(lambda number=number: at_work(number), timeout_s=150, what=f"the run's life {number} has begun")
        interrupt(root_shell, submitted["jobs"][0])
    answer = root_shell.json("wait", submitted["id"], timeout_s=250)

    assert answer["results"]["states"] == {"finished": 1}
    runs = root_shell.events(submitted["id"], "run_started")
    assert len({event["run"] for event in runs}) == 1
    assert [event["resumed"] for event in runs] == [False] + [True] * len(ways)
    reasons = [event["reason"] for event in root_shell.events(submitted["id"], "run_finished")]
    assert reasons[:2] == ["the task is preempted", "received SIGUSR2"]
    (history,) = root_shell.histories(answer["sweep"], "_step", "loss").values()
    assert history == undisturbed(0.1, steps)
