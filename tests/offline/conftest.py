"""A real server in a process of its own, and the two kinds of clients that talk to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from offline.clients import Protocol, Wandb, wait_until

from wandb_submit.server import lifecycle
from wandb_submit.server.lifecycle import ServerInfo

Serve = Callable[..., ServerInfo]


def scrubbed(home: Path) -> dict[str, str]:
    """This process's environment without what would lead a wandb client anywhere else."""
    home.mkdir(parents=True, exist_ok=True)
    (home / ".netrc").touch(mode=0o600)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WANDB_", "XDG_", "SLURM_")) and not name.lower().endswith("_proxy")
    }
    return {
        **kept,
        "HOME": str(home),
        "NETRC": str(home / ".netrc"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "WANDB_ERROR_REPORTING": "false",
    }


@pytest.fixture(scope="session")
def client_env(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment for wandb clients, before they are told of a server."""
    return scrubbed(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def serve(client_env: Mapping[str, str]) -> Iterator[Serve]:
    """Starts servers with options of the test's choosing, in the foreground of processes that end with the tests."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(data_dir: Path, *options: str) -> ServerInfo:
        data_dir.mkdir(parents=True, exist_ok=True)
        with (data_dir / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "wandb_submit.server", "--data", str(data_dir), *options],
                env=dict(client_env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        processes.append(process)

        def started() -> ServerInfo | None:
            assert process.poll() is None, (data_dir / "server.log").read_text()
            info = lifecycle.status(data_dir)
            return info if info is not None and info.pid == process.pid else None

        return wait_until(started, timeout_s=20, what="the server has started")

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def server(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> ServerInfo:
    """One server for all tests that need no special one; its clocks are short."""
    return serve(tmp_path_factory.mktemp("server") / "data", "--gone-grace", "1", "--stop-grace", "1", "--seed", "7")


@pytest.fixture
def protocol(server: ServerInfo) -> Iterator[Protocol]:
    """Speaks to the shared server."""
    with Protocol(server) as client:
        yield client


@pytest.fixture
def wandb(server: ServerInfo, client_env: Mapping[str, str], tmp_path: Path) -> Wandb:
    """The unmodified client, pointed at the shared server."""
    return Wandb.at(server, tmp_path, client_env)
