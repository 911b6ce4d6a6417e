"""The runs' environment on this machine: what a template says holds here as on a cluster."""

from __future__ import annotations

import json
import re
import sys

import pytest
from support import Shell

RECORD = """
import json, os, sys
names = ("NAME", "MADE", "FLAG", "THROUGH", "CUDA_VISIBLE_DEVICES")
seen = {name: os.environ.get(name) for name in names} | {"python": sys.executable}
with open(f"seen-{os.environ['WANDB_RUN_ID']}.json", "w") as file:
    json.dump(seen, file)
"""
LOCAL = ("--offline", "--executor", "local", "--array", "1")


def test_a_template_prepares_the_runs_of_this_machine(shell: Shell) -> None:
    sweep = shell.sweep(RECORD, parameters={"x": {"values": [1, 2]}})
    (shell.folder / "through").write_text('#!/bin/sh\nexport THROUGH="$1"; shift; exec "$@"\n')
    (shell.folder / "through").chmod(0o755)
    (shell.folder / "mine.yaml").write_text(
        "env: {NAME: it's mine}\n"
        "setup:\n"
        '  - export MADE="$NAME on $CUDA_VISIBLE_DEVICES"\n'
        "  - cd / && unset PYTHONPATH\n"
        'teardown: echo "$MADE" >after\n'
        'python: ./through "a word" python\n'
    )
    options = (*LOCAL, "--gpus-per-task", "1", "--template", "mine.yaml", "--setup", "export FLAG=set")
    devices = {"CUDA_VISIBLE_DEVICES": "3"}
    shown = shell.ok(sweep, *options, "--dry-run", **devices)
    assert "before each task: export FLAG=set\n" in shown
    assert 'before each task: python is ./through "a word" python\n' in shown
    assert 'after each task: echo "$MADE" >after\n' in shown

    answer = shell.json(sweep, *options, **devices)
    assert answer["runs_done"] == 2
    assert [event["exit_code"] for event in shell.events(answer["id"], "run_finished")] == [0, 0]
    seen = [json.loads(path.read_text()) for path in shell.folder.glob("seen-*.json")]
    assert seen == [
        {
            "NAME": "it's mine",
            "MADE": "it's mine on 3",
            "FLAG": "set",
            "THROUGH": "a word",
            "CUDA_VISIBLE_DEVICES": "3",
            "python": sys.executable,
        }
    ] * len(seen)
    assert len(seen) == 2
    assert (shell.folder / "after").read_text() == "it's mine on 3\n"


def test_setup_that_fails_fails_the_task(shell: Shell) -> None:
    sweep = shell.sweep(RECORD, parameters={"x": {"values": [1]}})
    done = shell.run(sweep, *LOCAL, "--setup", "true", "--setup", "module load nowhere", "--json")
    answer = json.loads(done.stdout)
    (task,) = answer["tasks"]
    assert (done.returncode, task["state"]) == (1, "failed")
    assert re.fullmatch(
        r"command 2 of setup failed with exit status 127: .*module: command not found", task["detail"]
    ), task
    assert f"agent 0 failed: {task['detail']}" in done.stderr
    assert task["detail"] in shell.json("status")["tasks"][0]["detail"]
    assert "command 2 of setup failed with exit status 127" in shell.ok("logs", answer["id"], "--task", "0")
    assert not list(shell.folder.glob("seen-*"))


@pytest.mark.parametrize("agent", ["native", "wandb"])
@pytest.mark.parametrize("python", ["/no/such/python", "nosuchcmd python"])
def test_a_python_that_is_not_there_after_the_setup_takes_no_run(python: str, agent: str, shell: Shell) -> None:
    sweep = shell.sweep(RECORD, parameters={"x": {"values": [1, 2]}})
    done = shell.run(sweep, *LOCAL, "--setup", "true", "--python", python, "--agent", agent, "--json")
    answer = json.loads(done.stdout)
    (task,) = answer["tasks"]
    assert (done.returncode, task["state"], answer["runs_done"]) == (1, "failed", 0)
    assert task["detail"].startswith(f"no run can be started: --python {python!r}: there is no ")
    assert f"agent 0 failed: {task['detail']}" in done.stderr
    assert answer["results"]["states"] == {}
    assert not list(shell.folder.glob("seen-*"))


def test_a_line_of_setup_that_names_other_gpus_ends_the_task_before_its_runs(shell: Shell) -> None:
    sweep = shell.sweep("pass", parameters={"x": {"values": [1, 2]}})
    options = (*LOCAL, "--gpus-per-task", "1", "--setup", "export CUDA_VISIBLE_DEVICES=0")
    done = shell.run(sweep, *options, CUDA_VISIBLE_DEVICES="3")
    assert done.returncode == 1
    assert "CUDA_VISIBLE_DEVICES is '0', but the local executor gave it 3" in done.stdout + done.stderr
    (stopped,) = shell.events(shell.json("status")["id"])
    assert (stopped["event"], stopped["ok"], stopped["runs"]) == ("agent_stopped", False, 0)
