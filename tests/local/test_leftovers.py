"""What a task's trials have started ends with the task, wherever it has put itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from support import Shell, alive, wait_until

# A daemon as by the book: two forks, and a session of its own between them.
DAEMON = """
import os, sys, time
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "1000"])
        os._exit(0)
    os.wait()
"""
TRIAL = (
    DAEMON
    + """
import wandb
with wandb.init() as run:
    daemon()
    run.log({"loss": run.config.x})
    if run.config.x == 2:
        time.sleep(1000)
"""
)


def daemons(task: str) -> list[int]:
    """The daemons that a task has left, by number."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (
                entry.name.isdecimal()
                and (entry / "cmdline").read_text() == "sleep\0001000\000"
                and f"WANDB_SUBMIT_JOB_ID={task}\0" in (entry / "environ").read_text()
            ):
                found.append(int(entry.name))
    return found


def test_a_trials_daemon_ends_with_its_task(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(TRIAL, name="daemon", parameters={"x": {"values": [1, 1.5]}})
    submitted = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--wait")
    assert submitted["runs_done"] == 2
    assert daemons(submitted["tasks"][0]["job"]) == []


def test_a_trials_daemon_ends_with_a_scheduler_that_is_killed(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(TRIAL, name="daemons_end", parameters={"x": {"values": [2]}})
    submitted = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")
    (job,) = [task["job"] for task in offline_shell.json("status", submitted["id"])["tasks"]]
    (daemon,) = wait_until(lambda: daemons(job), what="the daemon is there")
    state = offline_shell.queue(submitted["id"]) / "state.json"
    os.kill(json.loads(state.read_text())["pid"], signal.SIGKILL)
    wait_until(lambda: not alive(daemon), what="the daemon has ended")


def test_a_job_that_a_job_submits_outlives_it(shell: Shell) -> None:
    program = """
import os, sys, time
from pathlib import Path
import submitit

def executor():
    return submitit.AutoExecutor("jobs", cluster="workstation")

def wait():
    while not Path("go").exists():
        time.sleep(0.05)
    return "waited"

def submit():
    return executor().submit(wait)

if __name__ == "__main__":
    inner = executor().submit(submit).result()
    Path("go").touch()
    print(inner.result())
"""
    (shell.folder / "program.py").write_text(program)
    done = shell.call(sys.executable, "program.py", PYTHONPATH=str(shell.folder))
    assert (done.returncode, done.stdout) == (0, "waited\n"), done.stderr
