"""`--preload`: runs that are forked from a process which has imported their modules, with the real `wandb`."""

from __future__ import annotations

import json
import signal

from support import Shell, alive, wait_until

RECORD = """
import argparse, json, os, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=int)
x = parser.parse_args().x
before = "wandb" in sys.modules
import wandb
with wandb.init() as run:
    run.log({"loss": x})
with open(f"place-{run.id}.json", "w") as file:
    json.dump({"before": before, "config": run.config["x"], "x": x, "pid": os.getpid(), "ppid": os.getppid()}, file)
"""


def test_warm_runs_are_whole_runs_of_their_own_processes(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(RECORD, parameters={"x": {"values": [1, 2, 3, 4, 5, 6]}})
    answer = offline_shell.json(
        *(sweep, "--offline", "--executor", "local", "--array", "2", "--preload", "wandb,json", "--gpus-per-task", "1"),
        CUDA_VISIBLE_DEVICES="4,5",
    )
    assert answer["ok"], answer
    assert answer["results"]["states"] == {"finished": 6}
    places = [json.loads(path.read_text()) for path in offline_shell.folder.glob("place-*.json")]
    assert sorted(place["x"] for place in places) == sorted(place["config"] for place in places) == [1, 2, 3, 4, 5, 6]
    assert all(place["before"] for place in places)
    started = offline_shell.events(answer["id"], "run_started")
    assert {event["pid"] for event in started} == {place["pid"] for place in places}
    assert all(event["warm"] for event in started)
    assert len({place["ppid"] for place in places}) == 2


KNOWN = """
import json, os, re, sys, threading
imported = "wandb" in sys.modules
import wandb
run = wandb.init()
own = ("run_name", "x_stats_pid", "x_start_time", "api_key")
settings = {name: str(value) for name, value in run.settings.model_dump().items() if name not in own}
seen = [settings, threading.active_count(), sorted(name for name in os.environ if name.startswith("WANDB_"))]
text = re.sub(r"\\d{8}_\\d{6}", "TIME", json.dumps(seen)).replace(run.id, "RUN")
with open(f"known-{imported}.json", "w") as file:
    file.write(text)
run.finish()
"""


def test_wandb_knows_in_a_warm_run_what_it_knows_in_a_cold_one(offline_shell: Shell) -> None:
    parameters = {"x": {"values": [1, 2]}}
    sweep = offline_shell.sweep(KNOWN, name="known", parameters=parameters, command=["python", "${program}"])
    options = ("--offline", "--executor", "local", "--array", "1", "--count", "1")
    cold = offline_shell.json(sweep, *options)
    warm = offline_shell.json(cold["sweep"], *options, "--preload", "wandb,numpy")
    assert [answer["results"]["states"] for answer in (cold, warm)] == [{"finished": 1}, {"finished": 2}]
    seen = {name: json.loads((offline_shell.folder / f"known-{name}.json").read_text()) for name in (True, False)}
    assert seen[True] == seen[False]
    assert len(seen[True][0]) > 100


def test_a_module_that_cannot_be_imported_ends_the_submission_before_it_takes_a_run(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(RECORD, parameters={"x": {"values": [1, 2]}})
    (offline_shell.folder / "half.py").write_text("import nonsense\n")
    options = ("--offline", "--executor", "local", "--array", "2", "--preload")
    done = offline_shell.run(sweep, *options, "half")
    assert done.returncode == 1
    assert "--preload cannot import half: ModuleNotFoundError" in done.stdout + done.stderr
    done = offline_shell.run(sweep, *options, "nonsense")
    assert done.returncode == 2
    assert "finds no such module" in done.stderr
    assert "created sweep" not in done.stderr


def test_a_command_of_another_form_runs_cold_and_says_so(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(RECORD, parameters={"x": {"values": [1]}}, command=["bash", "-c", "true"])
    answer = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--preload", "wandb")
    (cold,) = offline_shell.events(answer["id"], "cold_starts")
    assert "not of the form `python PROGRAM.py` or `python -m MODULE`: bash -c true" in cold["reason"]
    assert [event["warm"] for event in offline_shell.events(answer["id"], "run_started")] == [False]


def test_a_warm_run_that_is_cancelled_ends_as_a_cold_one(shell: Shell) -> None:
    script = "import os, time, wandb\nrun = wandb.init()\nrun.log({'loss': 1})\nopen('ready', 'w')\ntime.sleep(600)\n"
    sweep = shell.sweep(script, parameters={"x": {"values": [1]}})
    submitted = shell.json(
        *(sweep, "--offline", "--executor", "local", "--array", "1", "--preload", "wandb", "--detach")
    )
    wait_until((shell.folder / "ready").exists, what="the run is at work")
    shell.ok("cancel", submitted["id"])
    shell.run("wait", submitted["id"])
    (started,) = shell.events(submitted["id"], "run_started")
    (ended,) = shell.events(submitted["id"], "run_finished")
    assert started["warm"]
    assert (ended["exit_code"], ended["reason"]) == (-signal.SIGINT, "the submission was cancelled")
    assert shell.states(submitted["sweep"]) == {"killed": 1}
    assert not alive(started["pid"])
