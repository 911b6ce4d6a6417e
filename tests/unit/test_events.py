from __future__ import annotations

import json
import logging
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wandb_submit.store import events
from wandb_submit.store.events import (
    AgentRegistered,
    AgentStarted,
    AgentStopped,
    ColdStarts,
    Event,
    EventReader,
    EventWriter,
    RunAbandoned,
    RunFinished,
    RunStarted,
    ServerBack,
    ServerLost,
    agent_name,
    sort_key,
)

ALL = [
    AgentStarted(task=3, host="gpu1", pid=7, job_id="9_3", gpus="0,1", cpus=[0, 1], restarts=2, node_gpus="2,3"),
    AgentStarted(task=0, host="gpu1", pid=7, job_id="", gpus=None, cpus=[]),
    AgentRegistered(agent_id="a1"),
    RunStarted(run="r1", pid=8, command=["python", "a b.py", "--x='é\n'"], log="/l", idle_s=0.5, resumed=True),
    RunFinished(run="r1", exit_code=-9, seconds=1.25, reason="the sweep is over"),
    ColdStarts(reason="threads"),
    RunAbandoned(run="r2", reason="cannot be started"),
    ServerLost(reason="503"),
    ServerBack(seconds=3.0),
    AgentStopped(reason="done", ok=True, runs=4),
]


def write(path: Path, *happened: Event) -> None:
    writer = EventWriter(path)
    for event in happened:
        writer.write(event)
    writer.close()


def read(path: Path) -> list[Event]:
    return [stamped.event for stamped in EventReader(path).read()]


def line(**fields: object) -> bytes:
    return json.dumps({"v": 1, "t": 1.0, **fields}).encode() + b"\n"


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """A file may grow no larger than this many bytes, as on a disk that has filled up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_samples_below_cover_every_event() -> None:
    assert {type(event) for event in ALL} == set(get_args(Event))


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_an_event_is_read_as_it_was_written(event: Event, tmp_path: Path) -> None:
    write(tmp_path / "events.jsonl", event)
    assert read(tmp_path / "events.jsonl") == [event]


@given(reason=st.text(), run=st.text())
def test_no_text_breaks_the_line_that_holds_it(reason: str, run: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "events.jsonl"
    happened = [RunAbandoned(run=run, reason=reason), ServerBack(seconds=1.0)]
    write(path, *happened)
    assert path.read_bytes().count(b"\n") == 2
    assert read(path) == happened


def test_events_carry_the_version_and_the_time_they_were_written_at(tmp_path: Path) -> None:
    before = time.time()
    write(tmp_path / "e", ServerBack(seconds=1.0))
    record = json.loads((tmp_path / "e").read_text())
    assert record["v"] == events.VERSION
    assert before - 0.01 <= record["t"] <= time.time() + 0.01


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    write(tmp_path / "agents" / "0" / "events.jsonl", ALL[0])
    assert (tmp_path / "agents" / "0" / "events.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_not_there_yet_holds_no_events(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == []


def test_a_reader_yields_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "e"
    reader = EventReader(path)
    assert list(reader.read()) == []
    write(path, ALL[0], ALL[2])
    assert [stamped.event for stamped in reader.read()] == [ALL[0], ALL[2]]
    write(path, ALL[3])
    assert [stamped.event for stamped in reader.read()] == [ALL[3]]
    assert list(reader.read()) == []


def test_a_torn_last_line_is_left_out_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "e"
    whole = line(event="server_back", seconds=1.0)
    path.write_bytes(whole + whole[:10])
    reader = EventReader(path)
    assert len(list(reader.read())) == 1
    with path.open("ab") as file:
        file.write(whole[10:])
    assert [stamped.event for stamped in reader.read()] == [ServerBack(seconds=1.0)]


def test_an_agent_that_goes_on_in_a_torn_file_keeps_its_own_events_whole(tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_bytes(line(event="server_back", seconds=1.0) + b'{"v": 1, "t": 2.0, "eve')
    write(path, ServerBack(seconds=2.0))
    assert read(path) == [ServerBack(seconds=1.0), ServerBack(seconds=2.0)]


@pytest.mark.parametrize(
    "strange",
    [
        line(event="gpu_caught_fire", degrees=900),
        line(event="server_back"),
        line(seconds=1.0),
        b'{"v": 1, "t": null, "event": "server_back", "seconds": 1.0}\n',
        b"[1, 2]\n",
        b"null\n",
        b"\xff\xfe\n",
        b"\n",
    ],
)
def test_a_line_that_this_version_does_not_know_is_skipped(strange: bytes, tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(
        line(event="server_back", seconds=1.0) + strange + line(event="server_lost", reason="x")
    )
    assert read(tmp_path / "e") == [ServerBack(seconds=1.0), ServerLost(reason="x")]


def test_fields_of_a_newer_version_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(line(v=9, event="server_back", seconds=1.0, watts=300))
    assert read(tmp_path / "e") == [ServerBack(seconds=1.0)]


def test_a_full_disk_is_said_in_the_log_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "e").symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "e", RunFinished(run="r1", exit_code=0, seconds=1.0))
    assert "No space left" in caplog.text
    assert "r1" in caplog.text


def test_events_that_come_once_the_disk_has_space_again_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "e"
    writer = EventWriter(path)
    writer.write(ServerBack(seconds=1.0))
    with full_disk(path.stat().st_size + 20):
        writer.write(ServerBack(seconds=2.0))
    writer.write(ServerBack(seconds=3.0))
    writer.close()
    assert read(path) == [ServerBack(seconds=1.0), ServerBack(seconds=3.0)]


def test_an_agent_starts_although_the_disk_is_full_and_its_last_line_torn(tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_bytes(b'{"v": 1, "t": 2.0, "eve')
    with full_disk(path.stat().st_size):
        writer = EventWriter(path)
        writer.write(ServerBack(seconds=1.0))
    writer.close()
    assert path.read_bytes() == b'{"v": 1, "t": 2.0, "eve'


def test_two_writers_of_one_file_do_not_mix_their_lines(tmp_path: Path) -> None:
    first, second = EventWriter(tmp_path / "e"), EventWriter(tmp_path / "e")
    for seconds in range(20):
        (first if seconds % 2 else second).write(ServerBack(seconds=float(seconds)))
    first.close()
    second.close()
    assert read(tmp_path / "e") == [ServerBack(seconds=float(seconds)) for seconds in range(20)]


def test_agents_sort_by_number() -> None:
    names = [agent_name(task, agent) for task in (10, 2) for agent in (1, 0)]
    assert sorted(names, key=sort_key) == ["2", "2.1", "10", "10.1"]


def test_a_closed_writer_holds_no_descriptor(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    write(tmp_path / "e", ALL[0])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
