"""Runs that the server stops: the client in the run obeys first, and nothing of it counts as a failure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from support import Shell, wait_until

# The client hears of a stop when it next looks, every 15 s, if the server has told it meanwhile.
QUICKLY = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}
HERE = ("--offline", "--executor", "local")
# Works until it is stopped, if x is 0.
WORK = """
import time, wandb
def train():
    run = wandb.init()
    while run.config.x == 0:
        run.log({"loss": 1})
        time.sleep(0.2)
"""
# Stops the runs of some sweeps that are at work; tells how many there are.
STOP = """
import sys, wandb
most, sweeps = int(sys.argv[1]), sys.argv[2:]
runs = [run for run in wandb.Api().runs("local/tests") if run.sweep_name in sweeps and run.state == "running"]
for run in runs if len(runs) == most else ():
    run.stop()
print(len(runs))
"""
FUNCTION = (
    WORK
    + """
import json, wandb_submit
if __name__ == "__main__":
    config = {"method": "grid", "project": "tests", "parameters": {"x": {"values": [0, 1]}}}
    submission = wandb_submit.submit(config, function=train, array=1, executor="local", offline=True)
    print(json.dumps({"id": submission.id, "sweep": submission.record.sweep.path}))
"""
)
# How a program may take the interrupt that a stop is.
WAYS = {
    "lets_it_pass": "train()\n",
    "ends_with_a_status_of_its_own": "try:\n    train()\nexcept KeyboardInterrupt:\n    import sys; sys.exit(1)\n",
    "is_a_shells": "train()\n",
    "is_forked": "train()\n",
}


def stop(shell: Shell, answers: Sequence[dict], runs: int) -> None:
    """Waits until so many runs of the submissions' sweeps are at work, and stops them at their server."""
    sweeps = [answer["sweep"].rpartition("/")[2] for answer in answers]
    wait_until(lambda: int(shell.wandb_python(STOP, str(runs), *sweeps)) == runs, what=f"{runs} runs are at work")


def test_a_run_that_a_person_stops_has_not_failed_however_it_was_started(offline_shell: Shell) -> None:
    answers = []
    for name, way in WAYS.items():
        command = {"command": ["sh", "-c", 'python is_a_shells.py "$@"; exit $?', "sh", "${args}"]}
        options = command if name == "is_a_shells" else {}
        sweep = offline_shell.sweep(WORK + way, name=name, parameters={"x": {"values": [0, 1]}}, **options)
        preload = ("--preload", "wandb") if name == "is_forked" else ()
        answers.append(offline_shell.json(sweep, *HERE, "--array", "1", "--detach", *preload, **QUICKLY))
    (offline_shell.folder / "function.py").write_text(FUNCTION)
    done = offline_shell.call("python", "function.py", **QUICKLY)
    answers.append(json.loads(done.stdout.splitlines()[-1]))
    stop(offline_shell, answers, len(answers))
    for answer in answers:
        waited = offline_shell.run("wait", answer["id"], "--json")
        seen = json.loads(waited.stdout)
        assert (waited.returncode, seen["ok"]) == (0, True), waited.stderr
        assert (seen["runs_done"], seen["runs_failed"], seen["runs_stopped"]) == (1, 0, 1)
        assert seen["results"]["states"] == {"finished": 1, "killed": 1}
        (stopped,) = (end for end in offline_shell.events(answer["id"], "run_finished") if end["exit_code"])
        assert stopped["reason"] == "the server asked for it"
        assert "stopped: the server asked for it" in offline_shell.ok("logs", answer["id"])
    assert (
        len({end["exit_code"] for answer in answers for end in offline_shell.events(answer["id"], "run_finished")}) > 2
    )


def test_stopped_runs_are_no_reason_to_give_up(offline_shell: Shell) -> None:
    """Five agents' first runs are stopped: had they failed, that would be the end of the submission."""
    script = WORK.replace("x == 0", "x < 5") + "train()\n"
    sweep = offline_shell.sweep(script, name="five", parameters={"x": {"values": [*range(7)]}})
    answer = offline_shell.json(sweep, *HERE, "--array", "5", "--detach", **QUICKLY)
    stop(offline_shell, [answer], 5)
    waited = offline_shell.run("wait", answer["id"], "--json")
    seen = json.loads(waited.stdout)
    assert (waited.returncode, seen["runs_failed"], seen["runs_stopped"]) == (0, 0, 5), waited.stderr
    assert seen["results"]["states"] == {"finished": 2, "killed": 5}


def test_runs_that_early_termination_stops_have_not_failed(offline_shell: Shell) -> None:
    script = """
import time, wandb
run = wandb.init()
for step in range(9 if run.config.x == 0 else 200):
    run.log({"loss": run.config.x})
    time.sleep(0.2)
"""
    sweep = offline_shell.sweep(
        script,
        name="hyperband",
        metric={"name": "loss", "goal": "minimize"},
        early_terminate={"type": "hyperband", "min_iter": 3, "eta": 3},
        parameters={"x": {"values": [0, 5, 6, 7, 8, 9]}},
    )
    waited = offline_shell.run(sweep, *HERE, "--array", "6", "--wait", "--json", timeout_s=300, **QUICKLY)
    seen = json.loads(waited.stdout)
    assert (waited.returncode, seen["runs_failed"]) == (0, 0), waited.stderr
    assert seen["runs_stopped"] >= 3  # those that were at a band before the best are among the best then
    assert seen["results"]["best"]["config"]["x"] == 0


def test_a_run_of_a_sweep_that_is_cancelled_was_stopped(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(WORK + "train()\n", name="cancelled", parameters={"x": {"values": [0]}})
    answer = offline_shell.json(sweep, *HERE, "--array", "1", "--detach", **QUICKLY)
    wait_until(lambda: offline_shell.events(answer["id"], "run_started"), what="a run has started")
    code = "import sys; from wandb.cli import cli; cli.cli(['sweep', '--cancel', sys.argv[1]])"
    offline_shell.wandb_python(code, answer["sweep"])
    waited = offline_shell.run("wait", answer["id"], "--json")
    seen = json.loads(waited.stdout)
    assert (waited.returncode, seen["runs_failed"], seen["runs_stopped"]) == (0, 0, 1), waited.stderr


def test_a_run_that_nobody_stopped_has_failed_however_it_was_killed(offline_shell: Shell) -> None:
    script = """
import os, signal, wandb
run = wandb.init()
if run.config.x == 0:
    raise KeyboardInterrupt
os.kill(os.getpid(), run.config.x)
"""
    sweep = offline_shell.sweep(script, name="nobody", parameters={"x": {"values": [0, 2, 9, 11, 15]}})
    waited = offline_shell.run(sweep, *HERE, "--array", "1", "--wait", "--json", WANDB_AGENT_DISABLE_FLAPPING="true")
    seen = json.loads(waited.stdout)
    assert (waited.returncode, seen["runs_failed"], seen["runs_stopped"]) == (1, 5, 0), waited.stderr
    codes = [end["exit_code"] for end in offline_shell.events(seen["id"], "run_finished")]
    assert codes == [-2, -2, -9, -11, -15]
