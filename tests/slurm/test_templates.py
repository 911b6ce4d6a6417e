"""Every packaged template on a real Slurm cluster.

What the cluster lacks (conda, modules, Apptainer, Pyxis) is there as small programs that do what the real ones do as
far as a job's script and its runs can see.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from slurm.bed import environment
from support import Shell, wait_until

from wandb_submit.options import templates

pytestmark = pytest.mark.slurm

# What a run sees; the sweep is named after the template.
RECORD = """
import json, os, pathlib, sys
names = ("CUDA_VISIBLE_DEVICES", "CONDA_DEFAULT_ENV", "LOADED", "VIRTUAL_ENV", "WRAPPED", "OMP_NUM_THREADS",
         "WORLD_SIZE",
         "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR", "SLURM_CPUS_PER_TASK", "SLURM_STEP_ID")
seen = {name: os.environ.get(name) for name in names}
seen |= {"argv": sys.argv[1:], "node": os.uname().nodename, "cwd": os.getcwd()}
pathlib.Path(f"{pathlib.Path(sys.argv[0]).stem}-{os.environ['WANDB_RUN_ID']}.json").write_text(json.dumps(seen))
if os.environ.get("WANDB_CACHE_DIR"):
    import wandb
    with wandb.init() as run:
        artifact = wandb.Artifact("numbers", "dataset")
        pathlib.Path("numbers").write_text("1 2 3")
        artifact.add_file("numbers")
        run.log_artifact(artifact).wait()
        run.use_artifact("numbers:latest").download()
"""

SUBMIT = """
import json, sys, wandb_submit
submitted = {}
for name, options in json.load(open("cases.json")).items():
    array = options.pop("array", 1)
    submitted[name] = wandb_submit.submit(
        f"{name}.yaml", executor="slurm", offline=True, array=array, templates=[name], **options)
print(json.dumps({name: one.id for name, one in submitted.items()}), flush=True)
ended = {name: one.wait() for name, one in submitted.items()}
print(json.dumps({name: [snapshot.is_well, snapshot.runs_done] for name, snapshot in ended.items()}))
"""

# What makes a template fit this small cluster.
CASES: Mapping[str, Mapping[str, object]] = {
    "cpu": {"mem": "1G"},
    "single-gpu": {"mem": "1G"},
    "multi-gpu-ddp": {"mem": "1G", "cpus_per_task": 8},
    "multi-node-ddp": {"mem": "1G", "cpus_per_task": 4},
    "whole-node": {"gpus_per_task": 4, "agents_per_task": 4, "cpus_per_task": 16, "time": "30"},
    "preemptible": {"mem": "1G"},
    "long-with-requeue": {"mem": "1G"},
    "conda": {"env": {"CONDA_ENV": "vision"}},
    "venv-modules": {"env": {"MODULES": "python/3.11 cuda", "VENV": "my env"}},
    "apptainer": {"env": {"IMAGE": "the image.sif"}},
    "pyxis": {"env": {"IMAGE": "./the image.sqsh"}, "gpus_per_task": 2},
    "scratch-dirs": {},
}

PROGRAMS = {
    # What `conda info --base` and the file that it leads to do.
    "conda": 'echo "$BASE"',
    # `apptainer exec [options] IMAGE command`
    "apptainer": """
shift; while [ "${1#--}" != "$1" ]; do [ "$1" = --nv ] || shift; shift; done
test -r "$1" || exit 255
export WRAPPED="$1"; shift; exec "$@"
""",
    # Slurm's own, with Pyxis's options taken for granted.
    "srun": """
for option; do
  shift
  case "$option" in
    --container-image=*) export WRAPPED="${option#*=}" ;;
    --container-*) ;;
    *) set -- "$@" "$option" ;;
  esac
done
exec /usr/bin/srun "$@"
""",
}


@pytest.fixture
def site(public_tmp: Path, clean_env: dict[str, str]) -> Iterator[Shell]:
    """Root on the login node of a cluster that has everything."""
    programs = public_tmp / "programs"
    programs.mkdir()
    for name, body in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}")
        (programs / name).chmod(0o755)
    profile = public_tmp / "conda" / "etc" / "profile.d"
    profile.mkdir(parents=True)
    (profile / "conda.sh").write_text('conda() { test "$1" = activate && export CONDA_DEFAULT_ENV="$2"; }\n')
    virtual = public_tmp / "my env" / "bin"
    virtual.mkdir(parents=True)
    (virtual / "activate").write_text(f'export VIRTUAL_ENV="{virtual.parent}" PATH="{virtual}:$PATH"\n')
    (virtual / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (virtual / "python").chmod(0o755)
    (public_tmp / "the image.sif").touch()
    env = {
        **clean_env,
        **environment(),
        "BASE": str(public_tmp / "conda"),
        "BASH_FUNC_module%%": '() { case "$1" in purge) LOADED= ;; load) shift; export LOADED="$*" ;; esac; }',
        "SCRATCH": str(public_tmp / "the scratch"),
    }
    env["PATH"] = f"{programs}:{env['PATH']}"
    shell = Shell(folder=public_tmp, env=env)
    yield shell
    subprocess.run(["scancel", "--user=root"], env=env, check=False, timeout=60)
    shell.leave()


def test_every_template_is_submitted_and_does_what_it_says(site: Shell) -> None:
    assert set(CASES) == {path.stem for path in templates.packaged().glob("*.yaml")}
    for name in CASES:
        site.sweep(RECORD, name=name, parameters={"x": {"values": [1, 2, 3, 4] if name == "whole-node" else [1]}})
    (site.folder / "cases.json").write_text(json.dumps(CASES))
    (site.folder / "submit_all.py").write_text(SUBMIT)
    done = site.call("python", "submit_all.py", timeout_s=250)
    assert done.returncode == 0, done.stderr
    ids, ends = map(json.loads, done.stdout.splitlines())
    seen = {
        name: [json.loads(path.read_text()) for path in site.folder.glob(f"{name}-????????.json")] for name in CASES
    }
    logs = {name: site.run("logs", one, "--task", "0").stdout for name, one in ids.items() if not seen[name]}
    assert ends == {name: [True, 4 if name == "whole-node" else 1] for name in CASES}, logs
    assert logs == {}
    first = {name: places[0] for name, places in seen.items()}

    assert all(place["cwd"] == str(site.folder) for place in first.values())
    assert first["cpu"]["SLURM_CPUS_PER_TASK"] == "4"
    assert first["single-gpu"]["CUDA_VISIBLE_DEVICES"] in {"0", "1", "2", "3"}
    assert first["multi-gpu-ddp"]["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    assert first["multi-gpu-ddp"]["OMP_NUM_THREADS"] == "8"
    assert first["multi-node-ddp"]["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    assert first["multi-node-ddp"]["WORLD_SIZE"] == "8"
    assert len(seen["whole-node"]) == 4
    agents = site.events(ids["whole-node"], "agent_started")
    assert sorted(agent["gpus"] for agent in agents) == ["0", "1", "2", "3"]
    assert first["conda"]["CONDA_DEFAULT_ENV"] == "vision"
    assert first["venv-modules"]["LOADED"] == "python/3.11 cuda"
    assert first["venv-modules"]["VIRTUAL_ENV"] == str(site.folder / "my env")
    assert first["apptainer"]["WRAPPED"] == "the image.sif"
    assert first["pyxis"]["WRAPPED"] == "./the image.sqsh"
    assert first["pyxis"]["SLURM_STEP_ID"] == "1"
    (agent,) = site.events(ids["pyxis"], "agent_started")
    assert first["pyxis"]["CUDA_VISIBLE_DEVICES"] == agent["gpus"]
    assert first["apptainer"]["argv"] == first["pyxis"]["argv"] == ["--x=1"]

    scratch = site.folder / "the scratch" / "wandb-submit"
    assert first["scratch-dirs"]["WANDB_DIR"] == str(scratch)
    assert list(scratch.glob("wandb/run-*"))
    assert list(scratch.glob("wandb/sweep-*/config-*.yaml"))
    assert [path.read_text() for path in scratch.glob("artifacts/*/numbers")] == ["1 2 3"]
    assert list(scratch.glob("cache/**/obj/md5/*/*"))
    assert not list((site.folder / "wandb").glob("run-*"))
    assert not list(Path(site.env["HOME"]).glob(".cache/wandb/**/md5"))


def test_setup_that_fails_ends_the_task_and_teardown_follows_every_end(site: Shell) -> None:
    def submit(name: str, script: str, *options: str) -> dict[str, Any]:
        sweep = site.sweep(script, name=name, parameters={"x": {"values": list(range(5))}})
        return site.json(sweep, "--offline", "--executor", "slurm", "--array", "1", "--grace", "2", *options)

    def end(submitted: dict[str, Any]) -> tuple[str, Path]:
        (task,) = json.loads(site.run("wait", submitted["id"], "--json").stdout)["tasks"]
        return task["state"], site.folder / f"after-{task['job'].partition('_')[0]}"

    after = ("--teardown", 'echo "$ended" >after-$SLURM_ARRAY_JOB_ID', "--teardown", "false")
    unprepared = submit("unprepared", "open('ran', 'w').close()", "--setup", "true", "--setup", "ls /nowhere")
    slow = submit("slow", "import time; time.sleep(600)", *after)
    well = submit("well", "pass", *after)
    broken = submit("broken", "import sys; sys.exit(3)", *after)
    wait_until(lambda: site.events(slow["id"], "run_started"), what="a run has started")
    site.ok("cancel", slow["id"])

    assert end(unprepared)[0] == "failed"
    assert "command 2 of setup failed with exit status 2" in site.ok("logs", unprepared["id"], "--task", "0")
    assert not (site.folder / "ran").exists()
    # The teardown's own status is not the job's.
    for submitted, state, status in ((well, "completed", "0"), (broken, "failed", "1")):
        ended, mark = end(submitted)
        assert (ended, mark.read_text()) == (state, f"{status}\n")
    state, mark = end(slow)
    assert state == "cancelled"
    wait_until(mark.exists, what="the cancelled task's teardown")


def test_an_environment_that_sbatch_would_not_pass_on_is_set_all_the_same(site: Shell) -> None:
    script = "import os; open('seen', 'w').write(os.environ.get('BASE', '-') + os.environ['NAME'])"
    sweep = site.sweep(script, parameters={"x": {"value": 1}})
    path = f"PATH={os.path.dirname(sys.executable)}:/usr/bin:/bin"  # noqa: PTH120 a text
    variables = ("--sbatch", f"export={path},HOME,NETRC,SLURM_CONF", "--env", "NAME=it's ours")
    answer = site.json(sweep, "--offline", "--executor", "slurm", "--array", "1", *variables, "--wait")
    assert answer["ok"], answer
    assert (site.folder / "seen").read_text() == "-it's ours"
