"""A whole sweep by `wandb agent` and by ours: the same runs with the same ends, and the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support import Shell, wait_until

# Ends in every way that a run can end by itself, and writes down what it was started with.
TRAIN = """
import json, os, signal, sys, wandb
own = ("WANDB_SWEEP_ID", "WANDB_RUN_ID")
unlike = {value: name for name, value in os.environ.items() if name in own}
def alike(text):
    for value, name in unlike.items():
        text = text.replace(value, name)
    return text
with wandb.init() as run:
    config = dict(run.config)
    names = sorted(name for name in os.environ if name.startswith("WANDB_") and not name.startswith("WANDB_SUBMIT_"))
    started = {"argv": [alike(word) for word in sys.argv[1:]], "names": names, "cwd": os.getcwd(),
               "param_file": alike(os.environ.get("WANDB_SWEEP_PARAM_PATH", "")),
               "params": open(os.environ["WANDB_SWEEP_PARAM_PATH"]).read()}
    with open(f"started-{os.environ['WANDB_SWEEP_ID']}-{config['how']}.json", "w") as file:
        json.dump(started, file)
    with open("notes.txt", "w") as file:
        file.write(config["how"])
    run.save("notes.txt", policy="now")
    for step in range(3):
        run.log({"loss": config["net"]["width"] * step})
    match config["how"]:
        case "exits with 3":
            run.finish(exit_code=3)
            sys.exit(3)
        case "raises":
            raise RuntimeError("as told")
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
"""
HOWS = ["ends well", "exits with 3", "raises", "dies"]
CONFIG: dict[str, Any] = {
    "metric": {"name": "loss"},
    "parameters": {
        "how": {"values": HOWS},
        "zeros": {"value": "007"},
        "flag": {"value": True},
        "nothing": {"value": None},
        "small": {"value": 1e-5},
        "net": {"parameters": {"width": {"value": 8}, "act": {"value": "re lu; 'quoted'"}}},
    },
    "command": [
        "${env}",
        "${interpreter}",
        "${program}",
        "${args}",
        "--json",
        "${args_json}",
        "${args_no_boolean_flags}",
    ],
}
LOOK = """
import json, sys, wandb
sweep = wandb.Api().sweep(sys.argv[1])
def about(run):
    files = sorted(file.name for file in run.files())
    return {"state": run.state, "config": dict(run.config), "loss": run.summary.get("loss"), "files": files,
            "history": [row["loss"] for row in run.scan_history(keys=["loss"])], "group": run.group,
            "job_type": run.job_type, "tags": list(run.tags), "named_by_sweep": run.sweep.id == sweep.id}
print(json.dumps({"state": sweep.state, "runs": sorted((about(run) for run in sweep.runs), key=str)}))
"""


def seen(shell: Shell, sweep: str) -> dict[str, Any]:
    """What W&B's public API tells of a sweep and its runs."""
    return json.loads(shell.wandb_python(LOOK, sweep))


def started(folder: Path, sweep: str) -> dict[str, Any]:
    """With what each of a sweep's runs was started, by how it ended."""
    sweep_id = sweep.rpartition("/")[2]
    return {how: json.loads((folder / f"started-{sweep_id}-{how}.json").read_text()) for how in HOWS}


def config_files(folder: Path, sweep: str) -> list[str]:
    """The configuration files that an agent leaves behind, one per run."""
    return sorted(path.read_text() for path in folder.glob(f"wandb/sweep-{sweep.rpartition('/')[2]}/config-*.yaml"))


def test_a_sweep_ends_as_with_wandb_agent(shell: Shell) -> None:
    # Nothing but the agents may differ, so that neither gives up where three of four runs fail at once.
    env = {"WANDB_AGENT_DISABLE_FLAPPING": "true", "WANDB_AGENT_MAX_INITIAL_FAILURES": "50"}
    file = shell.sweep(TRAIN, **CONFIG)
    shell.ok("server", "start")
    sweeps = []
    for _ in range(2):
        made = shell.call("sh", "-c", f'eval "$(wandb-submit server env)" && wandb sweep {file}')
        assert made.returncode == 0, made.stderr
        sweeps.append(next(line.split()[-1] for line in made.stderr.splitlines() if "wandb agent" in line))
    theirs, ours = sweeps

    done = shell.call("sh", "-c", f'eval "$(wandb-submit server env)" && exec wandb agent {theirs}', **env)
    assert done.returncode == 0, done.stderr
    shell.run(ours, "--offline", "--executor", "local", "--array", "1", **env)

    # What the run that died has logged is sent by wandb-core, which outlives it.
    wait_until(lambda: seen(shell, ours)["state"] == "FINISHED", timeout_s=60, what="the sweep has ended")
    assert seen(shell, ours) == seen(shell, theirs)
    assert started(shell.folder, ours) == started(shell.folder, theirs)
    assert config_files(shell.folder, ours) == config_files(shell.folder, theirs) != []
