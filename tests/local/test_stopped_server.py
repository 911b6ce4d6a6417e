"""What is said before and after an offline server is stopped under its agents, and before Ctrl-C."""

from __future__ import annotations

import contextlib

from support import Shell, wait_until
from terminal import Terminal

SLEEP = "import time\ntime.sleep(600)\n"


def test_a_server_in_use_is_stopped_with_a_word(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(SLEEP, name="in_use", parameters={"x": {"values": [1, 2]}})
    submission = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")["id"]
    wait_until(lambda: offline_shell.events(submission, "run_started"), what="a run has started")

    asked = Terminal(offline_shell, "server", "stop")
    with contextlib.closing(asked):
        wait_until(lambda: asked.shows("Stop the server? [y/N]"), what="it asks")
        assert asked.shows("in use: 1 agent")
        asked.type(b"n\n")
        wait_until(asked.has_ended, what="it ends")
        assert asked.process.returncode == 1
    offline_shell.ok("server", "status")

    stopped = offline_shell.run("server", "stop")
    assert stopped.returncode == 0
    assert "in use: 1 agent" in stopped.stderr
    assert "waits for `wandb-submit server start`" in stopped.stderr
    assert "is stopped" in stopped.stdout

    wait_until(lambda: offline_shell.events(submission, "server_lost"), what="the agent has noticed")
    offline_shell.ok("cancel", submission)
    waited = offline_shell.run("wait", submission)
    said = waited.stdout + waited.stderr
    assert waited.returncode == 1
    assert "the sweep's results cannot be read: the offline server of" in waited.stdout
    assert f"when the server answers, `wandb-submit wait {submission}` shows the results" in waited.stderr
    assert "runs on" not in said
    assert "agent 0 cancelled: the submission was cancelled" in waited.stderr

    offline_shell.ok("server", "start")
    again = offline_shell.run("wait", submission)
    assert "runs: 1 " in again.stdout
    assert "the offline server runs on" in again.stderr
    assert "when the server answers" not in again.stderr


def test_a_server_that_nobody_uses_is_stopped_without_a_question(shell: Shell) -> None:
    sweep = shell.sweep("print()\n", name="idle", parameters={"x": {"values": [1]}})
    shell.run(sweep, "--offline", "--executor", "local", "--array", "1")
    shown = Terminal(shell, "server", "stop").lines()
    assert len(shown) == 1
    assert shown[0].endswith("is stopped")


def test_ctrl_c_is_explained_before(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(SLEEP, name="ctrl_c", parameters={"x": {"values": [1, 2]}})
    submitting = Terminal(offline_shell, sweep, "--offline", "--executor", "local", "--array", "1")
    with contextlib.closing(submitting):
        wait_until(lambda: submitting.shows("Ctrl-C asks the runs to end and stops the agents"), what="it says so")
        watching = Terminal(offline_shell, "wait")
        with contextlib.closing(watching):
            wait_until(lambda: watching.shows("Ctrl-C ends this view only; the agents go on"), what="it says so")
            watching.type(b"\x03")
            wait_until(watching.has_ended, what="the view ends")
            assert watching.process.returncode == 130
        assert not submitting.has_ended()
        submitting.type(b"\x03\x03")
        wait_until(submitting.has_ended, what="the agents end")


def test_a_dry_run_in_json(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("print()\n", name="dry", parameters={"x": {"values": [1, 2, 3]}})
    options = ("--offline", "--executor", "local", "--dry-run", "--gpus-per-task", "1", "--cpus-per-task", "1")
    plan = offline_shell.json(sweep, *options, "--array", "3", CUDA_VISIBLE_DEVICES="0,1")
    assert (plan["dry_run"], plan["executor"], plan["array"], plan["agents"]) == (True, "local", "3", 3)
    assert plan["at_once"] == 2
    gpus = [task["gpus"] for task in plan["tasks"]]
    assert sorted(gpus[:2]) == [["0"], ["1"]]
    assert gpus[2] is None
    assert len(plan["tasks"][0]["cores"]) == 1
    assert any("wait for devices" in note for note in plan["notes"])
