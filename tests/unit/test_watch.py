"""The server gives up on silent runs, and only on those, whatever the computer's clock does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wandb_submit.server.control.settings import Settings
from wandb_submit.server.request.context import ServerFacts
from wandb_submit.server.request.heard import Heard
from wandb_submit.server.service.watch import Watch
from wandb_submit.server.storage.clock import Clock
from wandb_submit.server.storage.database import Database
from wandb_submit.server.sweeps.background import BackgroundSearch

CRASH_AFTER_S, GONE_GRACE_S = 300.0, 15.0


@dataclass
class Scene:
    """A server without its edges, whose clocks the test moves."""

    folder: Path
    day: float = 1_800_000_000.0
    count: float = 1000.0
    database: Database = field(init=False)

    def __post_init__(self) -> None:
        self.database = Database(self.folder / "server.sqlite3")
        self.start()

    def start(self) -> None:
        """What a new server process begins with."""
        clock = Clock(lambda: self.day, lambda: self.count)
        self.heard = Heard(clock)
        server = ServerFacts(
            settings=Settings(data_dir=self.folder, crash_after_s=CRASH_AFTER_S, gone_grace_s=GONE_GRACE_S),
            key="",
            process="one",
            clock=clock,
            heard=self.heard,
            search=BackgroundSearch(self.database, 1),
        )
        self.watch = Watch(self.database, server)

    def pass_s(self, seconds: float, *heard: int) -> None:
        """Lets time pass as the watch sees it, a second at a time; some runs (by number) speak all the while."""
        for _ in range(int(seconds)):
            self.day += 1
            self.count += 1
            for run in heard:
                self.heard.of("runs", run)
            asyncio.run(self.watch.look())

    def do(self, sql: str) -> None:
        asyncio.run(self.database.write(lambda tx: tx.execute(sql)))

    def states(self) -> list[str]:
        rows = asyncio.run(self.database.read(lambda tx: tx.rows("SELECT state FROM runs ORDER BY id")))
        return [row["state"] for row in rows]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A server with an agent (1) that has a running run (1) and a pending one (2), and a run of nobody's (3)."""
    made = Scene(tmp_path)
    made.do("INSERT INTO projects VALUES (1, 'local', 'p', 0)")
    made.do(
        "INSERT INTO sweeps (number, id, project, config, state, created_at, updated_at)"
        " VALUES (1, 's', 1, '{method: random}', 'RUNNING', 0, 0)"
    )
    made.do("INSERT INTO agents (number, id, sweep, host, state, created_at, heartbeat_at) VALUES (1,'a',1,'','',0,0)")
    for run, agent, state in ((1, "1", "running"), (2, "1", "pending"), (3, "NULL", "running")):
        made.do(
            "INSERT INTO runs (id, project, name, sweep, agent, state, display_name, created_at, heartbeat_at)"
            f" VALUES ({run}, 1, 'r{run}', 1, {agent}, '{state}', '', 0, 0)"
        )
    yield made
    made.database.close()


def test_silent_runs_crash_and_those_that_speak_do_not(scene: Scene):
    scene.pass_s(CRASH_AFTER_S - 5, 1)
    assert scene.states() == ["running", "pending", "running"]
    scene.pass_s(10, 1)
    # The pending one goes back to its sweep.
    assert scene.states() == ["running", "pending", "crashed"]


def test_a_pending_run_is_not_silent_while_its_agent_speaks(scene: Scene):
    for _ in range(2 * int(CRASH_AFTER_S) // 100):
        scene.heard.of("agents", 1)
        scene.pass_s(100, 1, 3)
    rows = asyncio.run(scene.database.read(lambda tx: tx.rows("SELECT agent FROM runs")))
    assert [row["agent"] for row in rows] == [1, 1, None]


def test_a_run_that_its_agent_has_lost_crashes_soon_unless_it_speaks(scene: Scene):
    scene.do("UPDATE runs SET gone_at = 1 WHERE id IN (1, 3)")
    scene.pass_s(GONE_GRACE_S - 3)
    assert scene.states()[0] == "running"
    scene.pass_s(10, 3)
    assert scene.states() == ["crashed", "pending", "running"]


@pytest.mark.parametrize("jump_s", [-1e9, -3600, 3600, 1e9])
def test_nobody_crashes_when_the_clock_is_set(scene: Scene, jump_s: float):
    scene.do("UPDATE runs SET gone_at = 1 WHERE id = 1")
    scene.pass_s(3)
    scene.day += jump_s
    scene.pass_s(5)
    assert scene.states() == ["running", "pending", "running"]
    # And whoever is silent still crashes in time.
    scene.pass_s(GONE_GRACE_S)
    assert scene.states()[0] == "crashed"
    scene.pass_s(CRASH_AFTER_S)
    assert scene.states()[2] == "crashed"


@pytest.mark.parametrize("jump_s", [-1e6, 1e6])
def test_silence_begins_anew_with_each_start_of_the_server(scene: Scene, jump_s: float):
    scene.pass_s(CRASH_AFTER_S - 5)
    scene.day += jump_s
    scene.count = 5.0  # The machine was started anew, too.
    scene.start()
    scene.pass_s(CRASH_AFTER_S - 5)
    assert scene.states()[2] == "running"
    scene.pass_s(10)
    assert scene.states()[2] == "crashed"


def test_who_was_heard_of_is_written_down_with_the_time_of_day(scene: Scene):
    scene.day += 3600
    scene.pass_s(1, 3)
    row = asyncio.run(scene.database.read(lambda tx: tx.one("SELECT heartbeat_at FROM runs WHERE id = 3")))
    assert row is not None
    assert row["heartbeat_at"] == scene.day


def heard_at(scene: Scene, run: int) -> float:
    rows = asyncio.run(scene.database.read(lambda tx: tx.rows("SELECT heartbeat_at FROM runs WHERE id = ?", (run,))))
    return rows[0]["heartbeat_at"]


def test_a_run_with_a_large_config_is_written_down_seldom(scene: Scene):
    scene.do("UPDATE runs SET config = json_object('x', hex(zeroblob(12000000))) WHERE id = 1")
    scene.pass_s(1, 1, 3)
    first = heard_at(scene, 1)
    scene.pass_s(2, 1, 3)
    assert heard_at(scene, 3) == scene.day
    assert heard_at(scene, 1) == first
    for _ in range(2000):
        scene.pass_s(1, 1, 3)
        if heard_at(scene, 1) > first:
            break
    assert heard_at(scene, 1) == scene.day
