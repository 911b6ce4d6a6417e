"""Whatever dies, and whatever is lost with it: `status` tells the truth, nothing runs on, and no device stays held."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Shell, alive, processes_of, small_disk, wait_until

SLEEP = "import os, time\nopen('started-' + os.environ['WANDB_RUN_ID'], 'w').close()\ntime.sleep(600)\n"
# A job that knows nothing of us, with a child and a fork; submitit has it ignore SIGTERM.
STUBBORN = """
import json, os, subprocess, sys, time
from pathlib import Path
import submitit

def stubborn():
    child = subprocess.Popen(["sleep", "1000"]).pid
    fork = os.fork()
    if fork:
        Path("pids").write_text(json.dumps([os.getpid(), child, fork]))
    time.sleep(1000)

if __name__ == "__main__":
    executor = submitit.AutoExecutor("jobs", cluster="workstation")
    executor.update_parameters(gpus_per_node=1, workstation_grace_s=-9)
    jobs = executor.submit_array([stubborn, stubborn])
    print(jobs[0].job_id, flush=True)
    while not all(job.done() for job in jobs):
        time.sleep(0.1)
    print([job.state for job in jobs])
"""


def state(folder: Path) -> dict:
    return json.loads((folder / "state.json").read_text())


def submit(shell: Shell, sweep: str, *options: str) -> str:
    """Starts agents on one GPU; returns the submission's id once a run has begun."""
    answer = shell.json(
        *(sweep, "--offline", "--executor", "local", "--gpus-per-task", "1", "--detach", *options),
        CUDA_VISIBLE_DEVICES="0",
    )
    wait_until(lambda: shell.events(answer["id"], "run_started"), what="a run has started")
    return str(answer["id"])


def assert_told(shell: Shell, submission: str, waited: str, how: str) -> None:
    """`status`, the end of `wait` and the log tell why both tasks failed, the one that ran and the one that waited."""
    tasks = shell.json("status", submission)["tasks"]
    assert [(task["state"], task["detail"]) for task in tasks] == [("failed", how)] * 2
    log = f"wandb-submit logs {submission} --task"
    assert f"agents 0, 1 failed: {how} (log of agent 0: {log} 0)" in waited.splitlines()
    for task in "01":
        assert how in shell.ok("logs", submission, "--task", task)


def gpu_is_free(shell: Shell) -> None:
    """Runs a task on the GPU that was held."""
    sweep = shell.sweep("pass", name="after", parameters={"x": {"value": 1}})
    shell.ok(sweep, "--offline", "--executor", "local", "--gpus-per-task", "1", "--wait", CUDA_VISIBLE_DEVICES="0")


def test_jobs_that_ignore_signals_do_not_outlive_a_scheduler_that_is_killed(shell: Shell) -> None:
    (shell.folder / "program.py").write_text(STUBBORN)
    with subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=shell.folder,
        env={**shell.env, "PYTHONPATH": str(shell.folder), "CUDA_VISIBLE_DEVICES": "0"},
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        job = program.stdout.readline().strip()
        folder = shell.folder / "jobs" / f"queue-{job.rpartition('_')[0]}"
        wait_until((shell.folder / "pids").exists, what="the job runs")
        pids = wait_until(
            lambda: json.loads((shell.folder / "pids").read_text() or "[]"), what="it has told its processes"
        )
        os.kill(state(folder)["pid"], signal.SIGKILL)
        assert program.stdout.readline() == "['FAILED', 'FAILED']\n"
    wait_until(lambda: not any(map(alive, pids)) and not processes_of(folder), what="nothing of it is left")
    assert {task["detail"] for task in state(folder)["tasks"]} == {"its scheduler was killed by SIGKILL"}
    gpu_is_free(shell)


def test_a_submission_whose_scheduler_is_killed_ends_and_says_why(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(SLEEP, name="scheduler", parameters={"x": {"values": [1, 2, 3]}})
    submission = submit(offline_shell, sweep, "--array", "2")
    (run,) = offline_shell.events(submission, "run_started")
    os.kill(state(offline_shell.queue(submission))["pid"], signal.SIGKILL)
    waited = offline_shell.run("wait", submission)
    assert_told(offline_shell, submission, waited.stderr, "its scheduler was killed by SIGKILL")
    assert not alive(run["pid"])
    (ended,) = offline_shell.events(submission, "run_finished")
    assert ended["reason"] == "received SIGTERM"  # it had its grace
    wait_until(lambda: not processes_of(offline_shell.queue(submission)), what="the keeper has ended, too")
    gpu_is_free(offline_shell)


def test_a_scheduler_whose_keeper_is_killed_ends_its_tasks(offline_shell: Shell) -> None:
    """Nobody would look after them if it were killed, too."""
    sweep = offline_shell.sweep(SLEEP, name="keeper", parameters={"x": {"values": [1, 2, 3]}})
    submission = submit(offline_shell, sweep, "--array", "2")
    folder = offline_shell.queue(submission)
    scheduler = state(folder)["pid"]
    os.kill(int(Path(f"/proc/{scheduler}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    waited = offline_shell.run("wait", submission)
    assert_told(offline_shell, submission, waited.stderr, "its scheduler's keeper was killed")
    wait_until(lambda: not processes_of(folder), what="nothing of it is left")


def test_a_submission_that_is_cancelled_does_not_seem_to_have_failed(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(SLEEP, name="cancelled", parameters={"x": {"values": [1, 2, 3]}})
    submission = submit(offline_shell, sweep, "--array", "2")
    offline_shell.ok("cancel", submission)
    waited = offline_shell.run("wait", submission).stderr.splitlines()
    log = f"wandb-submit logs {submission} --task"
    assert f"agent 0 cancelled: the submission was cancelled (its log: {log} 0)" in waited
    assert "agent 1 cancelled" in waited
    assert "killed" not in offline_shell.ok("logs", submission, "--task", "0")


def test_a_task_that_is_killed_frees_its_device_for_the_next_one(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(SLEEP, name="task", parameters={"x": {"values": [1, 2, 3]}})
    submission = submit(offline_shell, sweep, "--array", "2")
    (run,) = offline_shell.events(submission, "run_started")
    (agent,) = offline_shell.events(submission, "agent_started")
    os.kill(agent["pid"], signal.SIGKILL)
    wait_until(lambda: len(offline_shell.events(submission, "run_started")) == 2, what="the next task has begun")
    assert not alive(run["pid"])
    answer = offline_shell.json("status", submission)
    assert [task["state"] for task in answer["tasks"]] == ["failed", "running"]
    assert answer["tasks"][0]["detail"] == "killed by SIGKILL"
    offline_shell.ok("cancel", submission)
    offline_shell.run("wait", submission)


@pytest.mark.parametrize("left", ["as it was", "half of it", "nothing", "no file", "torn events", "a stranger's pid"])
def test_when_everything_is_lost_at_once_status_does_not_believe_what_is_left(
    offline_shell: Shell, stranger: subprocess.Popen[bytes], left: str
) -> None:
    """As after a power cut: nobody could write anything down, and what was written last may be half there."""
    sweep = offline_shell.sweep(SLEEP, name="lost", parameters={"x": {"values": [1, 2, 3]}})
    submission = submit(offline_shell, sweep, "--array", "2")
    (run,) = offline_shell.events(submission, "run_started")
    folder = offline_shell.queue(submission)
    lost = processes_of(folder)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # none of them sees another one's end
        for pid in lost:
            os.kill(pid, number)
    wait_until(lambda: not alive(run["pid"]) and not processes_of(folder), what="all are dead")
    written, events = folder / "state.json", offline_shell.submission(submission) / "agents" / "0" / "events.jsonl"
    match left:
        case "half of it":
            written.write_text(written.read_text()[: written.stat().st_size // 2])
        case "nothing":
            written.write_text("")
        case "no file":
            written.unlink()
        case "torn events":
            events.write_bytes(events.read_bytes()[:-20])
        case "a stranger's pid":
            known = state(folder)
            known["pid"] = known["tasks"][0]["pid"] = stranger.pid
            written.write_text(json.dumps(known))
    answer = offline_shell.json("status", submission)
    assert [task["state"] for task in answer["tasks"]] == ["failed", "failed"]
    assert (answer["over"], answer["ok"]) == (True, False)
    assert all(task["running"] == [] for task in answer["tasks"])
    if left != "torn events":
        assert " lost with its agent " in offline_shell.ok("logs", submission)
    offline_shell.ok("cancel", submission)
    assert stranger.poll() is None
    gpu_is_free(offline_shell)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else's process."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "1m") as folder:
        yield folder


def test_a_full_disk_ends_no_run_and_the_truth_is_told_once_there_is_room(offline_shell: Shell, disk: Path) -> None:
    script = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)\n"
    sweep = offline_shell.sweep(script, name="full", parameters={"x": {"values": [1, 2]}})
    env = {"WANDB_SUBMIT_DIR": str(disk), "CUDA_VISIBLE_DEVICES": "0"}
    options = ("--executor", "local", "--array", "1", "--gpus-per-task", "1", "--count", "1", "--detach")
    env |= dict(line.removeprefix("export ").split("=", 1) for line in offline_shell.ok("server", "env").splitlines())
    submission = offline_shell.json(sweep, *options, **env)["id"]
    folder = disk / submission / "jobs" / f"queue-{submission}"
    events = disk / submission / "agents" / "0" / "events.jsonl"
    wait_until(lambda: events.exists() and "run_started" in events.read_text(), what="a run has started")
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4096)
    (offline_shell.folder / "go").touch()
    (agent,) = (json.loads(line)["pid"] for line in events.read_text().splitlines() if "agent_started" in line)
    wait_until(lambda: not alive(agent), what="the first task has ended")
    assert state(folder)["tasks"][0]["state"] == "running"  # it could not be written
    (disk / "filler").unlink()
    answer = json.loads(offline_shell.run("wait", submission, "--json", **env).stdout)
    (task,) = answer["tasks"]
    # The run is done, and its agent says so; submitit could not write down the task's result.
    assert (task["state"], task["done"], task["failed"], task["detail"]) == ("failed", 1, 0, "--count 1 reached")
    assert state(folder)["tasks"][0]["detail"] == "exit status 1"
    wait_until(lambda: not processes_of(folder), what="the scheduler has ended")


# Every Python that starts with this folder on its path has the clock that somebody sets by the file `offset`.
CLOCK = """
import os, time
real, offset = time.time, os.path.join(os.path.dirname(__file__), "offset")
def set_by_hand():
    with open(offset) as file:
        return real() + float(file.read() or 0)
time.time = set_by_hand
"""


@pytest.mark.parametrize("jump_s", [36000, -36000])
def test_a_clock_that_jumps_changes_no_time_limit(shell: Shell, tmp_path: Path, jump_s: int) -> None:
    clock = tmp_path / "clock"
    clock.mkdir()
    (clock / "sitecustomize.py").write_text(CLOCK)
    (clock / "offset").write_text("0")
    program = """
import os, time
import submitit
def sleep():
    open("began", "w").close()
    time.sleep(600)
if __name__ == "__main__":
    executor = submitit.AutoExecutor("jobs", cluster="workstation")
    executor.update_parameters(workstation_timeout_min=0.15, workstation_signal_delay_s=0, workstation_grace_s=0)
    job = executor.submit(sleep)
    while not os.path.exists("began"):
        time.sleep(0.05)
    before, began = time.time(), time.monotonic()
    with open(os.environ["OFFSET"], "w") as file:
        file.write(os.environ["JUMP"])
    jumped = time.time() - before
    while not job.done():
        time.sleep(0.1)
    print(job.state, round(jumped), time.monotonic() - began)
"""
    (shell.folder / "program.py").write_text(program)
    done = shell.call(
        *(sys.executable, "program.py"),
        PYTHONPATH=f"{clock}:{shell.folder}",
        OFFSET=str(clock / "offset"),
        JUMP=str(jump_s),
    )
    assert done.returncode == 0, done.stderr
    ended, jumped, took = done.stdout.split()
    assert (ended, abs(int(jumped) - jump_s) <= 2) == ("TIMEOUT", True)
    assert 6 < float(took) < 60
