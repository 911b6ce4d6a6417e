"""A real server in a process of its own, and the two kinds of clients that talk to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from offline.clients import Protocol, Wandb
from offline.stock_agents import Sweep, at_work
from support import wait_until

from wandb_submit.server.control import lifecycle
from wandb_submit.server.control.lifecycle import ServerInfo

Serve = Callable[..., ServerInfo]


@pytest.fixture(scope="module")
def serve(clean_env: Mapping[str, str]) -> Iterator[Serve]:
    """Starts servers with options of the test's choosing, in the foreground of processes that end with the tests."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(data_dir: Path, *options: str) -> ServerInfo:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (data_dir / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "wandb_submit.server", "--data", str(data_dir), *options],
                env=dict(clean_env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        processes.append(process)

        def started() -> ServerInfo | None:
            assert process.poll() is None, (data_dir / "server.log").read_text()
            info = lifecycle.status(data_dir)
            return info if info is not None and info.pid == process.pid else None

        return wait_until(started, what="the server has started")

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> ServerInfo:
    """One server for all tests of a file that need no special one: names are theirs alone. Its clocks are short."""
    return serve(tmp_path_factory.mktemp("server") / "data", "--gone-grace", "0.5", "--stop-grace", "1", "--seed", "7")


@pytest.fixture
def protocol(server: ServerInfo) -> Iterator[Protocol]:
    """Speaks to the shared server."""
    with Protocol(server) as client:
        yield client


@pytest.fixture
def wandb(server: ServerInfo, clean_env: Mapping[str, str], tmp_path: Path) -> Wandb:
    """The unmodified client, pointed at the shared server."""
    return Wandb.at(server, tmp_path, clean_env)


@pytest.fixture(scope="module")
def stock_sweeps(
    server: ServerInfo, clean_env: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Sweep]]:
    """The sweeps of wandb's own agents."""
    with at_work(server, tmp_path_factory.mktemp("agents"), clean_env) as sweeps:
        yield sweeps


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that run the wandb client."""
    for item in items:
        if not {"wandb", "stock_sweeps"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("client")
