from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from wandb_submit.errors import ConfigError, NotFoundError
from wandb_submit.spec import Endpoint, SweepRef
from wandb_submit.store import record as records
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.store.record import SubmissionRecord
from wandb_submit.system import files

RECORD = SubmissionRecord(
    id="abc234",
    created="2026-01-02T03:04:05+00:00",
    executor="slurm",
    sweep=SweepRef(entity="me", project="vision", id="k3f9", base_url="https://api.wandb.ai"),
    endpoint=Endpoint(base_url="https://api.wandb.ai"),
    workdir="/work dir",
    array="4%2",
    jobs=("7_0", "7_1"),
    resources={"gpus_per_task": 1, "partition": "gpu"},
)


def submission(home: Path, name: str, age_s: float = 0) -> SubmissionPaths:
    paths = records.create_folder(home, name)
    created = datetime.now(timezone.utc) - timedelta(seconds=age_s)
    records.save(paths, replace(RECORD, id=name, created=created.isoformat(timespec="seconds")))
    for path in (paths.submission, paths.folder):
        os.utime(path, (created.timestamp(), created.timestamp()))
    return paths


def edit(paths: SubmissionPaths, **changes: object) -> None:
    data = json.loads(paths.submission.read_text())
    paths.submission.write_text(json.dumps({**data, **changes}))


@pytest.mark.parametrize("server_dir", [None, Path("/data/the server")])
def test_a_record_is_read_as_it_was_saved(server_dir: Path | None, tmp_path: Path) -> None:
    paths = records.create_folder(tmp_path, "abc234")
    record = replace(RECORD, endpoint=Endpoint(base_url="http://127.0.0.1:9", server_dir=server_dir))
    records.save(paths, record)
    assert records.load(paths) == record


def test_a_submission_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    paths = submission(tmp_path, "abc234")
    assert paths.folder.stat().st_mode & 0o777 == 0o700
    assert paths.jobs.stat().st_mode & 0o777 == 0o700
    assert paths.submission.stat().st_mode & 0o777 == 0o600


def test_a_saved_file_leaves_no_draft_behind(tmp_path: Path) -> None:
    files.write_private(tmp_path / "file", "one")
    files.write_private(tmp_path / "file", "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "two")]


def test_a_folder_that_cannot_be_made_is_named_with_the_variable_that_moves_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/abc234.*WANDB_SUBMIT_DIR"):
        records.create_folder(tmp_path / "file", "abc234")


def test_a_record_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    paths = submission(tmp_path, "abc234")
    edit(paths, version=records.VERSION + 1)
    with pytest.raises(NotFoundError, match="written by a newer wandb-submit"):
        records.load(paths)


def test_a_submission_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=f"no submission zzz in {tmp_path}"):
        records.load(SubmissionPaths(tmp_path / "zzz"))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"version": 1}', '{"version": "x"}'])
def test_a_damaged_record_is_named(content: str, tmp_path: Path) -> None:
    paths = submission(tmp_path, "abc234")
    paths.submission.write_text(content)
    with pytest.raises(NotFoundError, match=r"cannot read .*submission\.json"):
        records.load(paths)


def test_submissions_are_listed_newest_last(tmp_path: Path) -> None:
    for name, age_s in [("bbb", 10), ("aaa", 5), ("ccc", 20)]:
        submission(tmp_path, name, age_s)
    (tmp_path / "server").mkdir()
    assert [paths.id for paths in records.all_submissions(tmp_path)] == ["ccc", "bbb", "aaa"]


def test_without_an_id_the_newest_is_meant(tmp_path: Path) -> None:
    submission(tmp_path, "aaa")
    submission(tmp_path, "bbb", age_s=10)
    assert records.find(None, tmp_path).id == "aaa"


def test_an_older_submission_whose_agents_start_later_is_not_the_newest(tmp_path: Path) -> None:
    older = submission(tmp_path, "aaa", age_s=20)
    submission(tmp_path, "bbb", age_s=10)
    older.events("0").parent.mkdir(parents=True)
    assert records.find(None, tmp_path).id == "bbb"


def test_the_beginning_of_an_id_is_enough(tmp_path: Path) -> None:
    submission(tmp_path, "abc")
    submission(tmp_path, "xyz")
    assert records.find("x", tmp_path).id == "xyz"


def test_a_whole_id_is_itself_even_where_another_begins_so(tmp_path: Path) -> None:
    submission(tmp_path, "abc")
    submission(tmp_path, "abcd")
    assert records.find("abc", tmp_path).id == "abc"


def test_an_ambiguous_beginning_brings_the_candidates(tmp_path: Path) -> None:
    submission(tmp_path, "abc", age_s=2)
    submission(tmp_path, "abd", age_s=1)
    submission(tmp_path, "xyz")
    with pytest.raises(NotFoundError, match="'ab' could be abc, abd"):
        records.find("ab", tmp_path)


def test_an_unknown_id_brings_the_newest_ones(tmp_path: Path) -> None:
    for age_s in range(7):
        submission(tmp_path, f"s{age_s}", age_s)
    with pytest.raises(NotFoundError, match=r"no submission 'zzz' .*: s4, s3, s2, s1, s0$"):
        records.find("zzz", tmp_path)


def test_where_nothing_was_submitted_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match=f"no submissions in {tmp_path}/.wandb-submit"):
        records.find(None)


def test_ids_are_short_distinct_and_fit_for_typing() -> None:
    ids = {records.new_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(len(name) == 6 and not set(name) & set("il1o0") for name in ids)


def test_the_present_moment_is_written_in_utc() -> None:
    assert datetime.fromisoformat(records.now()).utcoffset() == timedelta(0)
