"""The offline server of a login node, for nodes that share nothing with it but files and a network."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from slurm.bed import environment
from support import Shell

from wandb_submit.server.control.addresses import is_loopback, way_out

pytestmark = pytest.mark.slurm

QUICKLY = "import wandb\nwith wandb.init() as run:\n    run.log({'loss': run.config['x']})\n"


@pytest.fixture
def login_node(public_tmp: Path, clean_env: dict[str, str]) -> Iterator[Shell]:
    """A login node whose Slurm names its nodes by an address that is not this machine's loopback."""
    address = way_out()
    assert address is not None
    assert not is_loopback(address), "this machine has no address but loopback"
    programs = public_tmp / "bin"
    programs.mkdir()
    (programs / "sinfo").write_text(f"#!/bin/sh\necho {address}\n")
    (programs / "sinfo").chmod(0o755)
    env = {**clean_env, **environment()}
    shell = Shell(folder=public_tmp, env={**env, "PATH": f"{programs}:{env['PATH']}"})
    yield shell
    subprocess.run(["scancel", "--user=root"], env=env, check=False, timeout=60)
    shell.leave()


def test_nodes_reach_the_server_and_get_its_key_by_a_private_file_alone(login_node: Shell) -> None:
    sweep = login_node.sweep(QUICKLY, parameters={"x": {"values": [1, 2, 3]}}, metric={"name": "loss"})
    # Every host but the server's would be asked for by a proxy that is not there.
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY"), "http://127.0.0.1:9")
    options = ("--offline", "--executor", "slurm", "--array", "2", "--wait", "--json")
    done = login_node.run(sweep, *options, timeout_s=240, **proxies)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["results"]["states"] == {"finished": 3}

    server = login_node.json("server", "status")
    address = urlsplit(server["url"]).hostname
    assert address == way_out()
    assert (
        f"note: the cluster's nodes reach the offline server on {address}: only its key lets a client in" in done.stderr
    )
    (key,) = {
        line.partition("=")[2]
        for line in login_node.ok("server", "env").splitlines()
        if line.startswith("export WANDB_API_KEY=")
    }
    assert key not in done.stdout + done.stderr
    folder = login_node.folder / ".wandb-submit"
    holders = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and key.encode() in path.read_bytes()
    }
    assert holders == {"server/api_key", "server/server.json"}
    assert all((folder / holder).stat().st_mode & 0o077 == 0 for holder in holders)


def test_a_server_that_nodes_cannot_reach_is_refused_with_what_to_type(login_node: Shell) -> None:
    sweep = login_node.sweep(QUICKLY, parameters={"x": {"value": 1}})
    login_node.ok("server", "start")
    done = login_node.run(sweep, "--offline", "--executor", "slurm", "--array", "1")
    assert done.returncode == 6
    assert "listens on 127.0.0.1, which the cluster's nodes do not reach. Its data" in done.stderr
    (advice,) = [word for word in done.stderr.split("`") if "server start" in word]
    login_node.ok("server", "stop")
    login_node.call(*advice.split())
    answer = login_node.json(sweep, "--offline", "--executor", "slurm", "--array", "1", "--wait", timeout_s=240)
    assert answer["runs_done"] == 1
