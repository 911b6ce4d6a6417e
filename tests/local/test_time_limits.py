"""What becomes of runs that do not fit into their task's time limit, on this machine."""

from __future__ import annotations

import json
import os
import signal

from support import Shell, wait_until

LIMIT = ("--offline", "--executor", "local", "--array", "1", "--time", "3")  # 90 s for runs


def test_two_cuts_of_runs_that_go_nowhere_end_a_task_and_those_that_resume_do_not(shell: Shell) -> None:
    resumes = shell.example("preemptible")
    config = (shell.folder / resumes).read_text()
    (shell.folder / resumes).write_text(config.replace("[0.1, 0.3]", "[0.1]") + "  steps: {value: 1000}\n")
    resuming = shell.json(resumes, *LIMIT, "--detach")["id"]
    hangs = shell.sweep("import time; time.sleep(600)", name="hangs", parameters={"x": {"values": [1, 2, 3, 4]}})
    done = shell.run(hangs, *LIMIT, "--json", timeout_s=400)

    answer = json.loads(done.stdout)
    (task,) = answer["tasks"]
    assert (done.returncode, task["state"], task["cuts"], answer["cuts"]) == (1, "failed", 2, 2)
    assert "cut runs short 2 times, the last one after 90 s" in task["detail"]
    assert "submit again with a longer --time" in task["detail"]
    assert "stopped and did not come back: the task's time limit is near (give tasks a longer --time" in done.stderr
    assert [event["restarts"] for event in shell.events(answer["id"], "agent_started")] == [0, 1]
    assert {event["reason"] for event in shell.events(answer["id"], "run_finished")} == {
        "the task's time limit is near"
    }
    assert "2 cut by the time limit" in shell.ok("status", answer["id"])

    begun = wait_until(
        lambda: [
            run for run in shell.events(resuming, "run_started") if len(shell.events(resuming, "run_started")) > 2
        ],
        what="a run has been resumed twice",
    )
    assert len({run["run"] for run in begun}) == 1
    assert [run["resumed"] for run in begun] == [False, True, True]
    assert shell.json("status", resuming)["cuts"] == 2
    shell.ok("cancel", resuming)
    shell.run("wait", resuming)


def test_a_signal_that_comes_twice_is_no_preemption(shell: Shell) -> None:
    slow = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: pathlib.Path('asked').touch())\n"
        "time.sleep(600)\n"
    )
    sweep = shell.sweep(slow, parameters={"x": {"values": [1]}})
    submission = shell.json(sweep, *LIMIT, "--detach", "--grace", "3", "--max-requeues", "0")["id"]
    wait_until(lambda: shell.events(submission, "run_started"), what="a run has started")
    (agent,) = shell.events(submission, "agent_started")
    os.kill(agent["pid"], signal.SIGUSR2)
    wait_until((shell.folder / "asked").exists, what="the run has been asked to end")
    os.kill(agent["pid"], signal.SIGUSR2)

    (ended,) = wait_until(lambda: shell.events(submission, "run_finished"), what="the run has ended")
    assert ended["reason"] == "the task's time limit is near"
    shell.run("wait", submission)
