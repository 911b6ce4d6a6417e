"""Bringing a sweep onward: addresses, exit codes, parcels of lines, and the record of what was sent."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import pytest

from wandb_submit.errors import ConfigError, RefusedError
from wandb_submit.server.export import OfflineRun
from wandb_submit.server.runs.state import ENDED, state_after_exit
from wandb_submit.sync.journal import JournalError, look_at_journal, open_journal
from wandb_submit.sync.place import Place, api_address, pages_url
from wandb_submit.sync.run_upload import exit_code
from wandb_submit.sync.streams import Parcel

PLACE = Place(base_url="https://api.wandb.ai", entity="me", project="a b")
RUN = OfflineRun(
    number=1,
    name="r",
    state="finished",
    exit_code=None,
    display_name="r",
    description=None,
    notes=None,
    tags=(),
    group=None,
    job_type=None,
    commit=None,
    repo=None,
    program=None,
    host=None,
    config="{}",
    summary="{}",
    files=(),
    fingerprint="",
)


@pytest.mark.parametrize(
    ("base_url", "pages"),
    [
        ("https://api.wandb.ai", "https://wandb.ai"),
        ("https://api.lab.example", "https://app.lab.example"),
        ("https://lab.wandb.io", "https://lab.wandb.io"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
    ],
)
def test_a_servers_pages_have_an_address_of_their_own(base_url: str, pages: str, monkeypatch: pytest.MonkeyPatch):
    assert pages_url(base_url) == pages
    monkeypatch.setenv("WANDB_APP_URL", "https://seen.example/")
    assert pages_url(base_url) == "https://seen.example"


def test_the_address_of_a_sweep_can_be_typed():
    assert PLACE.sweep_url("x1") == "https://wandb.ai/me/a%20b/sweeps/x1"


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ("https://wandb.ai/", "https://api.wandb.ai"),
        ("https://api.wandb.ai", "https://api.wandb.ai"),
        ("http://h:1/path/", "http://h:1/path"),
    ],
)
def test_people_may_name_a_server_by_its_pages(named: str, address: str):
    assert api_address(named) == address


@pytest.mark.parametrize("named", ["wandb.ai", "ftp://wandb.ai", "https://", "https://api:secret@wandb.ai"])
def test_what_is_no_address_is_refused_without_its_secrets(named: str):
    with pytest.raises(ConfigError) as refused:
        api_address(named)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("state", ENDED)
@pytest.mark.parametrize("code", [None, 0, 1, 3, 254, 255, -9])
def test_the_exit_code_brings_a_run_into_its_state(state: str, code: int | None):
    run = dataclasses.replace(RUN, state=state, exit_code=code)
    assert state_after_exit(exit_code(run), preempting=False, stop_requested=False) == state


def test_a_failed_run_keeps_its_own_exit_code():
    assert exit_code(dataclasses.replace(RUN, state="failed", exit_code=3)) == 3


def test_lines_of_a_parcel_follow_each_other_and_are_not_too_many():
    parcel = Parcel()
    assert parcel.takes("a", 7, "x" * 10**8), "a single line goes, however long"
    parcel.add("a", 7, "seven", "d7")
    assert parcel.takes("a", 8, "eight")
    assert not parcel.takes("a", 9, "nine")
    assert not parcel.takes("a", 8, "x" * 10**8)
    assert parcel.takes("b", 3, "three")
    parcel.add("b", 3, "three", "d3")
    assert parcel.chunks() == {"a": {"offset": 7, "content": ["seven"]}, "b": {"offset": 3, "content": ["three"]}}
    assert {file: position.following for file, position in parcel.positions.items()} == {"a": 8, "b": 4}


def test_the_record_is_of_one_sweep_and_place_and_of_one_sync_at_a_time(tmp_path: Path):
    with open_journal(tmp_path, "s", PLACE) as journal:
        journal.note_sweep("id", "there")
        journal.note_begun(1, {"old": "m"})
        journal.note_file(1, "new", "n")
        journal.note_stream(1, "output.log", 5, "digest")
        assert (journal.knows(1), journal.fingerprint(1)) == (True, None)
        with pytest.raises(RefusedError, match="another sync of s to me/a b at "), open_journal(tmp_path, "s", PLACE):
            pass
        with open_journal(tmp_path, "s", dataclasses.replace(PLACE, project="other")) as other:
            assert other.sweep("id") is None
    with open_journal(tmp_path, "s", PLACE) as journal:
        journal.note_complete(1, "f")
        assert (journal.sweep("id"), journal.fingerprint(1), journal.stream(1, "output.log")) == (
            "there",
            "f",
            (5, "digest"),
        )
        assert journal.files(1) == {"old": "m", "new": "n"}


def test_looking_at_the_record_makes_none(tmp_path: Path):
    with look_at_journal(tmp_path, "s", PLACE) as journal:
        assert journal.sweep("id") is None
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_cannot_be_kept_is_an_error_that_says_what_to_do(tmp_path: Path):
    (tmp_path / "sync").write_text("in the way")
    with pytest.raises(ConfigError, match="copy the data folder"), open_journal(tmp_path, "s", PLACE):
        pass
    (tmp_path / "sync").unlink()
    with open_journal(tmp_path, "s", PLACE) as journal:
        path = journal.path
    path.write_bytes(b"not a database, but of the length that SQLite looks at before it complains" * 50)
    with pytest.raises(JournalError, match="remove it and sync again"), open_journal(tmp_path, "s", PLACE):
        pass
    path.unlink()
    with sqlite3.connect(path) as tables:
        tables.execute("PRAGMA user_version = 99")
    tables.close()
    with pytest.raises(RefusedError, match="another version"), open_journal(tmp_path, "s", PLACE):
        pass
