"""`--agent wandb`: W&B's own agent with the devices, signals and end of our tasks."""

from __future__ import annotations

import json
from pathlib import Path

from support import Shell, alive, wait_until

RECORD = """
import json, os, wandb
with wandb.init() as run:
    run.log({"loss": 1})
    with open(f"place-{run.id}.json", "w") as file:
        json.dump({"cuda": os.environ.get("CUDA_VISIBLE_DEVICES"), "x": run.config["x"]}, file)
"""
HANG = """
import os, time, wandb
run = wandb.init()
run.log({"loss": 1})
open(f"pid-{os.getpid()}", "w").close()
while not os.path.exists("go"):
    time.sleep(0.1)
"""
OPTIONS = ("--offline", "--executor", "local", "--agent", "wandb")


def pid(folder: Path) -> int:
    found = wait_until(lambda: list(folder.glob("pid-*")), what="the run is at work")
    return int(found[0].name.removeprefix("pid-"))


def test_it_works_on_the_sweep_with_its_tasks_devices_and_its_log(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(RECORD, parameters={"x": {"values": [1, 2, 3, 4]}})
    answer = offline_shell.json(
        *(sweep, *OPTIONS, "--array", "2", "--gpus-per-task", "1", "--count", "2"),
        CUDA_VISIBLE_DEVICES="4,5",
    )
    assert answer["ok"], answer
    assert answer["results"]["states"] == {"finished": 4}
    places = [json.loads(path.read_text()) for path in offline_shell.folder.glob("place-*.json")]
    assert sorted(place["x"] for place in places) == [1, 2, 3, 4]
    assert sorted(place["cuda"] for place in places) == ["4", "4", "5", "5"]
    ends = offline_shell.events(answer["id"], "agent_stopped")
    assert [(end["reason"], end["ok"]) for end in ends] == [("wandb agent ended with status 0", True)] * 2
    assert "Starting wandb agent" in offline_shell.ok("logs", answer["id"], "--task", "0")
    assert "runs are not followed with --agent wandb" in offline_shell.ok("status", answer["id"])
    told = offline_shell.run("logs", answer["id"])
    assert told.returncode == 3
    assert f"what they print is in `wandb-submit logs {answer['id']} --task T`" in told.stderr


def test_cancel_ends_its_run_cleanly_and_it_takes_no_other(shell: Shell) -> None:
    sweep = shell.sweep(HANG, parameters={"x": {"values": [1, 2]}})
    sent = shell.json(sweep, *OPTIONS, "--array", "1", "--detach")
    run = pid(shell.folder)
    shell.ok("cancel", sent["id"])
    shell.run("wait", sent["id"])
    wait_until(lambda: not alive(run), what="the run has ended")
    (end,) = shell.events(sent["id"], "agent_stopped")
    assert end["reason"] == "the submission was cancelled"
    assert shell.states(sent["sweep"]) == {"killed": 1}


def test_a_halt_file_lets_its_run_end_and_is_the_last(shell: Shell) -> None:
    sweep = shell.sweep(HANG, parameters={"x": {"values": [1, 2]}})
    sent = shell.json(sweep, *OPTIONS, "--array", "1", "--detach")
    pid(shell.folder)
    (shell.submission(sent["id"]) / "halt").write_text("enough for today")
    wait_until(
        lambda: "no further runs: enough for today" in shell.ok("logs", sent["id"], "--task", "0"),
        what="the task has seen it",
    )
    (shell.folder / "go").touch()
    shell.ok("wait", sent["id"])
    (end,) = shell.events(sent["id"], "agent_stopped")
    assert (end["reason"], end["ok"]) == ("enough for today", True)
    assert shell.states(sent["sweep"]) == {"finished": 1}
