"""What the end of `wait` says of runs that failed or were killed, of agents that gave up, and by its exit status."""

from __future__ import annotations

import json
import re
import signal

import pytest
from support import Shell, wait_until

HERE = ("--offline", "--executor", "local")
FAIL = """
import os, signal, wandb
run = wandb.init()
if run.config.x == 0:
    os.kill(os.getpid(), signal.SIGSEGV)
if run.config.x == 1:
    print("epoch 3", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
raise ValueError("NaN" if run.config.x == 2 else f"no part {run.config.x}")
"""
SLEEP = "import os, time\nopen('started-' + os.environ['WANDB_RUN_ID'], 'w').close()\ntime.sleep(600)\n"


def test_every_run_that_failed_is_told_with_what_ended_it_and_none_seems_to_run(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(FAIL, name="fail", parameters={"x": {"values": [2, 3, 4, 0, 1]}})
    done = offline_shell.run(sweep, *HERE, "--array", "1", "--wait", WANDB_AGENT_DISABLE_FLAPPING="true")
    assert done.returncode == 1
    submission = offline_shell.json("status")["id"]
    runs = [event["run"] for event in offline_shell.events(submission, "run_started")]
    log = f"wandb-submit logs {submission}"
    told = [line for line in done.stderr.splitlines() if line.startswith("run")]
    assert told == [
        f"run {runs[0]} failed: ValueError: NaN (its log: {log} {runs[0]})",
        f"runs {runs[1]}, {runs[2]} failed: ValueError: no part 3 ({runs[1]}'s log: {log} {runs[1]})",
        f"run {runs[3]} killed by signal 11 (SIGSEGV) (its log: {log} {runs[3]})",
        f"run {runs[4]} killed by signal 9 (SIGKILL); its last line: epoch 3 (its log: {log} {runs[4]})",
    ]
    assert "runs: 5 (2 crashed, 3 failed)" in done.stdout
    assert "killed by signal 11 (SIGSEGV)" in offline_shell.ok("logs", submission, "--task", "0")


def test_a_run_that_was_killed_with_its_agent_does_not_seem_to_run(offline_shell: Shell) -> None:
    script = "import time, wandb\nrun = wandb.init()\nopen('started-' + run.id, 'w').close()\ntime.sleep(600)\n"
    sweep = offline_shell.sweep(script, name="lost", parameters={"x": {"value": 1}})
    submission = offline_shell.json(sweep, *HERE, "--array", "1", "--detach")["id"]
    (run,) = wait_until(lambda: offline_shell.events(submission, "run_started"), what="a run has started")
    wait_until((offline_shell.folder / f"started-{run['run']}").exists, what="it is with the server")
    (agent,) = offline_shell.events(submission, "agent_started")
    offline_shell.call("kill", f"-{signal.SIGKILL.value}", str(agent["pid"]))
    waited = offline_shell.run("wait", submission, "--json")
    assert json.loads(waited.stdout)["results"]["states"] == {"crashed": 1}


def test_a_run_that_was_killed_after_its_grace_does_not_seem_to_run(offline_shell: Shell) -> None:
    script = (
        "import signal, time, wandb\nrun = wandb.init()\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "open('started-' + run.id, 'w').close()\ntime.sleep(600)\n"
    )
    sweep = offline_shell.sweep(script, name="deaf", parameters={"x": {"value": 1}})
    submission = offline_shell.json(sweep, *HERE, "--array", "1", "--grace", "1", "--detach")["id"]
    (run,) = wait_until(lambda: offline_shell.events(submission, "run_started"), what="a run has started")
    wait_until((offline_shell.folder / f"started-{run['run']}").exists, what="it is with the server")
    offline_shell.ok("cancel", submission)
    waited = offline_shell.run("wait", submission, "--json")
    assert json.loads(waited.stdout)["results"]["states"] == {"killed": 1}
    (ended,) = offline_shell.events(submission, "run_finished")
    assert ended["exit_code"] == -signal.SIGKILL


def test_what_made_several_agents_give_up_is_told_once_and_in_the_words_of_the_first(offline_shell: Shell) -> None:
    script = "raise SystemExit('no such dataset')\n"
    sweep = offline_shell.sweep(script, name="broken", parameters={"x": {"values": [*range(40)]}})
    done = offline_shell.run(sweep, *HERE, "--array", "4", "--wait")
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if re.match(r"agents? ", line)]
    assert len({re.sub(r"\d", "", line) for line in told}) == len(told)
    assert sum(len(re.findall(r"\d+", line.partition(" failed: ")[0])) for line in told) == 4
    common = {event["reason"] for event in offline_shell.events(offline_shell.json("status")["id"], "agent_stopped")}
    in_words_of_the_first = [reason for reason in common if "of this submission have all failed" in reason]
    assert len(in_words_of_the_first) <= 1
    assert len([line for line in done.stderr.splitlines() if line.startswith("run")]) == 1
    assert offline_shell.ok("status").count("of this submission have all failed") == len(in_words_of_the_first)


@pytest.mark.parametrize("halted", [True, False])
def test_to_cancel_runs_is_no_good_end_whether_or_not_others_were_kept_from_beginning(
    halted: bool, offline_shell: Shell
) -> None:
    name = f"halted{halted}".lower()
    sweep = offline_shell.sweep(SLEEP, name=name, parameters={"x": {"values": [1, 2, 3, 4]}})
    submission = offline_shell.json(sweep, *HERE, "--array", "4%3", "--detach")["id"]
    wait_until(lambda: len(offline_shell.events(submission, "run_started")) == 3, what="three runs have begun")
    if halted:
        (offline_shell.submission(submission) / "halt").touch()
    offline_shell.ok("cancel", submission)
    waited = offline_shell.run("wait", submission, "--json")
    answer = json.loads(waited.stdout)
    assert (waited.returncode, answer["ok"], answer["runs_stopped"]) == (1, False, 3)


def test_tasks_that_only_waited_are_no_bad_end_of_a_halted_submission(offline_shell: Shell) -> None:
    script = "import os, time\nwhile not os.path.exists('go-on'): time.sleep(0.05)\n"
    sweep = offline_shell.sweep(script, name="waited", parameters={"x": {"values": [1, 2, 3, 4]}})
    submission = offline_shell.json(sweep, *HERE, "--array", "3%1", "--detach")["id"]
    wait_until(lambda: offline_shell.events(submission, "run_started"), what="a run has begun")
    (offline_shell.submission(submission) / "halt").touch()
    (offline_shell.folder / "go-on").touch()
    assert offline_shell.run("wait", submission).returncode == 0
