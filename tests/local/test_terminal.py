"""Agents do not hang on the terminal that they were submitted in, and Ctrl-C there ends them in two steps."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from support import Shell, alive, wait_until
from terminal import Terminal

SLEEP = "import time\ntime.sleep(600)\n"
WAIT = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)\n"
STUBBORN = """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, lambda *_: open('ignored', 'w').close())
open('stubborn', 'w').close()
while True: time.sleep(1)
"""


def start(shell: Shell, sweep: str, **env: str) -> tuple[Terminal, dict, str]:
    """Submits in a terminal; returns it, the first run's event and the submission once that run has started."""
    before = {path.name for path in (shell.folder / ".wandb-submit").iterdir()}
    terminal = Terminal(shell, sweep, "--offline", "--executor", "local", "--array", "1", **env)

    def started() -> tuple[str, dict] | None:
        terminal.shows("")
        for path in (shell.folder / ".wandb-submit").iterdir():
            if path.name not in before and (events := shell.events(path.name, "run_started")):
                return path.name, events[0]
        return None

    submission, run = wait_until(started, what="a run has started")
    return terminal, run, submission


@pytest.mark.parametrize("how", ["closed", "hung up", "killed"])
def test_the_agents_go_on_without_their_terminal(offline_shell: Shell, how: str) -> None:
    (offline_shell.folder / "go").unlink(missing_ok=True)
    sweep = offline_shell.sweep(WAIT, name="go_on", parameters={"x": {"values": [1, 2]}})
    terminal, run, submission = start(offline_shell, sweep)
    if how == "closed":
        terminal.close()
    else:
        os.killpg(terminal.process.pid, signal.SIGHUP if how == "hung up" else signal.SIGKILL)
    terminal.process.wait(timeout=120)
    terminal.close()
    assert alive(run["pid"])
    status = offline_shell.json("status", submission)
    assert [task["state"] for task in status["tasks"]] == ["running"]
    assert run["run"] in offline_shell.ok("logs", submission)
    (offline_shell.folder / "go").touch()
    answer = offline_shell.json("wait", submission)
    assert (answer["ok"], answer["runs_done"]) == (True, 2)


def test_ctrl_c_asks_and_ctrl_c_again_kills(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(STUBBORN, name="twice", parameters={"x": {"values": [1, 2]}})
    terminal, run, submission = start(offline_shell, sweep)
    wait_until((offline_shell.folder / "stubborn").exists, what="the run ignores signals")
    terminal.type(b"\x03")
    wait_until(lambda: terminal.shows("asking the runs to end; Ctrl-C again kills them"), what="it says so")
    wait_until((offline_shell.folder / "ignored").exists, what="the run was asked")
    assert alive(run["pid"])
    terminal.type(b"\x03")
    wait_until(lambda: terminal.shows("killing the runs"), what="it says so")
    wait_until(terminal.has_ended, what="it ends")
    assert terminal.process.returncode == 1
    assert not alive(run["pid"])
    assert [task["state"] for task in offline_shell.json("status", submission)["tasks"]] == ["cancelled"]
    terminal.close()


def test_detached_agents_are_steered_from_another_folder(offline_shell: Shell, tmp_path: Path) -> None:
    """Another shell: another folder, no variable of the first one but where submissions are."""
    sweep = offline_shell.sweep(SLEEP, name="detached", parameters={"x": {"values": [1, 2]}})
    submitted = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")
    (run,) = wait_until(lambda: offline_shell.events(submitted["id"], "run_started"), what="a run has started")
    there = {"WANDB_SUBMIT_DIR": str(offline_shell.folder / ".wandb-submit")}
    other = Shell(folder=tmp_path, env=offline_shell.env)
    assert run["run"] in other.ok("logs", submitted["id"], **there)
    other.ok("cancel", submitted["id"], **there)
    answer = json.loads(other.run("wait", submitted["id"], "--json", **there).stdout)
    assert [task["state"] for task in answer["tasks"]] == ["cancelled"]
    assert not alive(run["pid"])
