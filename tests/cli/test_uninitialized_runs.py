"""Runs that end well without `wandb.init()`: their server calls them failed, and the end of `wait` says why."""

from __future__ import annotations

import json

import pytest
from support import Shell

SCRIPT = """
import sys
import wandb
match sys.argv[1]:
    case "--x=1":
        wandb.init().finish()
    case "--x=2":  # what it logs stays on this machine
        wandb.init(mode="offline").finish()
    case "--x=3":
        sys.exit("broken")
"""


@pytest.mark.parametrize("options", [["--offline"], []], ids=["offline", "online"])
def test_runs_without_wandb_init_are_told_once_and_counted(options: list[str], shell: Shell) -> None:
    shell.ok("server", "start")
    # Without --offline our own server stands for W&B: the same login, the same requests.
    lines = shell.ok("server", "env").splitlines()
    env = {} if options else dict(line.removeprefix("export ").split("=", 1) for line in lines)
    sweep = shell.sweep(SCRIPT, parameters={"x": {"values": [0, 1, 2, 3]}})
    done = shell.run(sweep, *options, "--executor", "local", "--array", "2", "--wait", "--json", **env)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["runs_done"]) == (1, 4), done.stderr
    assert len(answer["results"]["uninitialized"]) == 2
    told = [line for line in done.stderr.splitlines() if "wandb.init" in line]
    assert [line.partition(" that ")[0] for line in told] == ["2 runs ended well without a `wandb.init()`"]
    assert "call `wandb.init()` in the script" in told[0]


def test_nothing_is_said_where_every_run_has_begun(shell: Shell) -> None:
    sweep = shell.sweep("import wandb; wandb.init().finish()", parameters={"x": {"value": 1}})
    done = shell.run(sweep, "--offline", "--executor", "local", "--array", "1", "--wait")
    assert (done.returncode, "wandb.init" in done.stderr) == (0, False), done.stderr


def test_the_server_tells_of_more_runs_than_a_page_has(shell: Shell) -> None:
    sweep = shell.sweep("", command=["true"], parameters={"x": {"values": list(range(201))}})
    done = shell.run(sweep, "--offline", "--executor", "local", "--array", "2", "--wait")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "runs: 201 (201 failed)"), done.stderr
    assert "201 runs ended well without a `wandb.init()`" in done.stderr
