"""`wandb-submit doctor` on machines where things are missing: it always answers, and says what to do."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path

import pytest
from support import WITH_PERMISSIONS, Shell


@pytest.fixture
def nowhere() -> str:
    """The address of a W&B that does not answer."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def put(shell: Shell, **programs: str) -> str:
    """Puts programs first on PATH; returns that PATH."""
    folder = shell.folder / "bin"
    folder.mkdir()
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{shell.env['PATH']}"


def examined(shell: Shell, *options: str, status: int, **env: str) -> dict[str, list[dict[str, str]]]:
    done = shell.run("doctor", "--json", *options, **env)
    assert done.returncode == status, done.stdout + done.stderr
    by_topic: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(done.stdout):
        assert finding["remedy"] or finding["verdict"] == "ok"
        by_topic.setdefault(finding["topic"], []).append(finding)
    return by_topic


def only_python(shell: Shell) -> str:
    """A PATH without Slurm."""
    return shell.env["PATH"].partition(":")[0]


def test_without_slurm_and_w_and_b_nothing_fails(shell: Shell, nowhere: str) -> None:
    env = {"PATH": only_python(shell), "WANDB_BASE_URL": nowhere, "WANDB_API_KEY": "0" * 40}
    found = examined(shell, "--probe", status=0, **env)
    assert "--executor local" in found["Slurm"][0]["words"]
    assert found["W&B"][0]["verdict"] == "warning"
    assert "--offline" in found["W&B"][0]["remedy"]
    assert "with wandb" in found["runs' Python"][0]["words"]
    shown = shell.ok("doctor", **env)
    assert f"{nowhere} does not answer" in shown
    assert "(the address is from WANDB_BASE_URL)" in shown
    assert "→ see WANDB_BASE_URL" in shown
    assert "0" * 40 not in shown


def test_without_a_login_the_ways_out_are_named(shell: Shell, nowhere: str) -> None:
    found = examined(shell, status=0, PATH=only_python(shell), WANDB_BASE_URL=nowhere)
    assert "not logged in" in found["W&B"][0]["words"]
    assert "--offline" in found["W&B"][0]["remedy"]


@pytest.mark.parametrize("where", ["wandb/settings", ".config/wandb/settings"])
def test_a_file_that_names_the_server_is_told(shell: Shell, nowhere: str, where: str) -> None:
    home = shell.folder if where.startswith("wandb") else shell.folder / "home"
    file = home / where
    file.parent.mkdir(parents=True)
    file.write_text(f"[default]\nbase_url = {nowhere}\n")
    env = {"HOME": str(shell.folder / "home")}
    found = examined(shell, "--executor", "local", status=0, **env)
    assert nowhere in found["W&B"][0]["words"]
    assert f"(the address is from {file})" in found["W&B"][0]["words"]


def test_a_slurm_that_does_not_answer_fails(shell: Shell, nowhere: str) -> None:
    says = "echo 'slurm_load_ctl_conf error: Unable to contact slurm controller' >&2; exit 1"
    path = put(shell, **dict.fromkeys(("sbatch", "srun", "squeue", "scancel", "sinfo", "scontrol"), says))
    found = examined(shell, status=1, PATH=path, WANDB_BASE_URL=nowhere)
    assert found["Slurm"][0]["verdict"] == "failed"
    assert "Unable to contact slurm controller" in found["Slurm"][0]["words"]
    assert "--executor local" in found["Slurm"][0]["remedy"]
    assert "Slurm" not in examined(shell, "--executor", "local", status=0, PATH=path, WANDB_BASE_URL=nowhere)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--executor", "local", "--probe"), "are for Slurm"),
        (("--executor", "locla"), "--executor 'locla' is not one of"),
        (("--qos", "long"), "add --probe"),
    ],
)
def test_options_that_do_nothing_are_refused(options: tuple[str, ...], says: str, shell: Shell) -> None:
    done = shell.run("doctor", *options)
    assert done.returncode == 2
    assert says in done.stderr


def test_what_stands_in_for_wandb_is_found(shell: Shell, nowhere: str) -> None:
    Path(shell.folder / "wandb.py").write_text("")
    found = examined(shell, status=1, PATH=only_python(shell), WANDB_BASE_URL=nowhere)
    assert [finding["verdict"] for finding in found["runs' Python"]] == ["failed", "ok"]


def test_scripts_that_import_what_the_client_has_not_are_found(shell: Shell, nowhere: str) -> None:
    (shell.folder / "train.py").write_text("import wandb.sdk.gone\nfrom wandb.apis.public import Api\n")
    (shell.folder / "broken.py").write_text("import wandb.sdk.gone as\n")
    (finding,) = examined(shell, status=0, PATH=only_python(shell), WANDB_BASE_URL=nowhere)["runs' wandb"]
    assert finding["verdict"] == "warning"
    assert finding["words"].startswith("train.py imports wandb.sdk.gone, which wandb ")


def test_a_client_that_cannot_be_imported_is_found(shell: Shell, nowhere: str) -> None:
    (shell.folder / "google").mkdir()
    (shell.folder / "google" / "__init__.py").write_text("")
    (shell.folder / "google" / "protobuf.py").write_text("raise TypeError('Descriptors cannot be created directly.')")
    (finding,) = examined(shell, status=1, PATH=only_python(shell), WANDB_BASE_URL=nowhere)["runs' wandb"]
    assert "Descriptors cannot be created directly" in finding["words"]
    assert "pip check" in finding["remedy"]


def test_a_full_quota_is_told_with_the_way_out(shell: Shell, nowhere: str) -> None:
    says = 'while read -r source _; do echo "$source 990* 1000 2000 0 5 0 0 0"; done </proc/self/mounts; exit 1'
    path = f"{put(shell, quota=says).partition(':')[0]}:{only_python(shell)}:/usr/bin:/bin"
    (finding,) = examined(shell, "--executor", "local", status=0, PATH=path, WANDB_BASE_URL=nowhere)["HOME"]
    assert "quota: 0.0 of 0.0 GB, 0.0 GB free" in finding["words"]
    assert "scratch-dirs" in finding["remedy"]


def test_the_probe_goes_where_it_is_sent(shell: Shell, nowhere: str) -> None:
    says = 'echo "$@" >asked; echo "srun: error: Unable to allocate resources: Invalid qos specification" >&2; exit 1'
    path = put(shell, srun=says, **dict.fromkeys(("sbatch", "squeue", "scancel", "sinfo"), "exit 1"))
    options = ("--probe", "--partition", "gpu", "--account", "lab", "--qos", "long")
    (finding,) = examined(shell, *options, status=1, PATH=path, WANDB_BASE_URL=nowhere)["from a node"]
    assert finding["words"].endswith("did not run: Unable to allocate resources: Invalid qos specification")
    assert "--partition=gpu --account=lab --qos=long" in (shell.folder / "asked").read_text()


def test_the_probe_of_a_node_that_sees_nothing_says_so(shell: Shell, nowhere: str) -> None:
    fails = "exit 1"
    seen = '{"host": "n1", "folder": false, "can_write": false, "why": "timed out"}'
    path = put(
        shell, srun=f"echo welcome; echo '{seen}'", **dict.fromkeys(("sbatch", "squeue", "scancel", "sinfo"), fails)
    )
    found = examined(shell, "--probe", status=1, PATH=path, WANDB_BASE_URL=nowhere)["from a node"]
    assert [finding["verdict"] for finding in found] == ["ok", "failed", "failed", "warning"]
    assert "a file system that the nodes share" in found[1]["remedy"]
    assert "set WANDB_DIR" in found[2]["remedy"]
    assert "--offline" in found[3]["remedy"]


@pytest.mark.parametrize(
    ("named", "verdict", "says"),
    [
        ("", "ok", "not set: wandb's files and runs' configurations go below {folder}"),
        ("there", "ok", "{folder}/there"),
        ("new/deeper", "ok", "{folder}/new/deeper, which the first run makes"),
        ("locked", "failed", "{folder}/locked, which cannot be written"),
        (
            "locked/new",
            "warning",
            "{folder}/locked/new, which is not there, or not for you, and cannot be made in {folder}/locked",
        ),
        ("file/new", "failed", "{folder}/file/new cannot be used: {folder}/file is no folder"),
    ],
)
def test_where_wandb_writes_is_looked_at(named: str, verdict: str, says: str, shell: Shell, nowhere: str) -> None:
    (shell.folder / "there").mkdir()
    (shell.folder / "locked").mkdir(mode=0o555)
    (shell.folder / "file").touch()
    bound = dataclasses.replace(shell, prefix=WITH_PERMISSIONS)
    env = {"WANDB_DIR": named, "WANDB_BASE_URL": nowhere}
    (finding,) = examined(bound, "--executor", "local", status=int(verdict == "failed"), **env)["WANDB_DIR"]
    assert (finding["verdict"], finding["words"]) == (verdict, says.format(folder=shell.folder))
    assert finding["remedy"].startswith("" if verdict == "ok" else "set WANDB_DIR to a folder")
