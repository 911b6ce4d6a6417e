"""Every name that we or a scheduler print of a submission, its tasks and runs, finds it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from submissions import LOCAL, make

from wandb_submit.errors import NotFoundError
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.submission import lookup

SLURM = replace(
    LOCAL,
    id="hq88qy",
    executor="slurm",
    sweep=replace(LOCAL.sweep, id="zz11yy22"),
    jobs=("70_0", "70_1", "71_0"),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    made = tmp_path / ".wandb-submit"
    make(made, LOCAL, k87bsotu="0", k99aaaaa="1", **{"1run": "1.1"})
    make(made, SLURM, zq1bbbbb="2")
    return made


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("hp7z3a", "hp7z3a"),
        ("hp", "hp7z3a"),
        (".wandb-submit/hp7z3a", "hp7z3a"),
        (".wandb-submit/hp7z3a/", "hp7z3a"),
        (".wandb-submit/hp7z3a/submission.json", "hp7z3a"),
        (".wandb-submit/hp7z3a/runs", "hp7z3a"),
        ("hp7z3a_1", "task 1 of hp7z3a"),
        ("hp7z3a_[0-1]", "hp7z3a"),
        ("hp7z3a_1_0_log.out", "task 1 of hp7z3a"),
        (".wandb-submit/hp7z3a/jobs/hp7z3a_1_0_log.out", "task 1 of hp7z3a"),
        (".wandb-submit/hp7z3a/agents/1.1", "task 1 of hp7z3a"),
        ("70_1", "task 1 of hq88qy"),
        ("70", "tasks 0, 1 of hq88qy"),
        ("70_[0-1]", "tasks 0, 1 of hq88qy"),
        ("70_[1]", "task 1 of hq88qy"),  # the one that still waits
        ("70_[1%2]", "task 1 of hq88qy"),
        ("hp7z3a_[1]", "task 1 of hp7z3a"),
        ("71_0_0_log.err", "task 2 of hq88qy"),
        ("zz11yy22", "hq88qy"),
        ("local/vision/zz11yy22", "hq88qy"),
        ("http://127.0.0.1:9/local/vision/sweeps/zz11yy22", "hq88qy"),
        ("k87bsotu", "run k87bsotu of hp7z3a"),
        ("k87", "run k87bsotu of hp7z3a"),
        ("k87bsotu.log", "run k87bsotu of hp7z3a"),
        (".wandb-submit/hp7z3a/runs/k87bsotu.log", "run k87bsotu of hp7z3a"),
    ],
)
def test_a_name_is_found(name: str, meant: str, home: Path) -> None:
    assert str(lookup.find(name)) == meant


def test_a_path_is_found_from_another_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert str(lookup.find(str(home / "hp7z3a" / "runs" / "k87bsotu.log"))) == "run k87bsotu of hp7z3a"
    with pytest.raises(NotFoundError, match="no submissions in"):
        lookup.find("hp7z3a")


@pytest.mark.parametrize(
    ("name", "those"),
    [
        ("h", "hp7z3a, hq88qy"),
        ("k", "run k87bsotu of hp7z3a, run k99aaaaa of hp7z3a"),
        ("twice123", "run twice123 of hp7z3b, run twice123 of hp7z3c"),
        ("shared12", "hp7z3b, hp7z3c"),
    ],
)
def test_ambiguous_names_are_listed(name: str, those: str, home: Path) -> None:
    for other in ("hp7z3b", "hp7z3c") if len(name) > 1 else ():
        sweep = replace(LOCAL.sweep, id="shared12")
        make(home, replace(LOCAL, id=other, sweep=sweep, jobs=(f"{other}_0",)), twice123="0")
    with pytest.raises(NotFoundError, match=f"'{name}' could be ") as raised:
        lookup.find(name)
    assert sorted(str(raised.value).partition("could be ")[2].partition(":")[0].split(", ")) == those.split(", ")


@pytest.mark.parametrize("name", ["nonsense", "non_sense"])
def test_what_is_not_there_is_said_with_what_is(name: str, home: Path) -> None:
    with pytest.raises(NotFoundError, match=rf"no submission '{re.escape(name)}' in .*the newest are: .*h"):
        lookup.find(name)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_never_means_the_only_submission(name: str, tmp_path: Path) -> None:
    make(tmp_path, LOCAL)
    with pytest.raises(NotFoundError, match="ID is empty"):
        lookup.find(name, tmp_path)


@pytest.mark.parametrize("name", ["hp7z3a_2", "hp7z3a_x", "hp7z3a_", "hp7z3a_[7-9]"])
def test_a_task_that_is_not_there_is_said_with_those_that_are(name: str, home: Path) -> None:
    with pytest.raises(NotFoundError, match="names no task of hp7z3a: they are hp7z3a_0 to hp7z3a_1"):
        lookup.find(name)


@pytest.mark.parametrize("name", ["70_[0-7]", "70_[9]", "70_[0,1,...]", "70_9"])
def test_so_it_is_with_slurms_names(name: str, home: Path) -> None:
    with pytest.raises(NotFoundError, match="names no task of hq88qy: they are 70_0 to 71_0"):
        lookup.find(name)


def test_a_record_that_cannot_be_read_hides_no_other(home: Path) -> None:
    (home / "hp7z3a" / "submission.json").write_text("{")
    assert str(lookup.find("71_0")) == "task 2 of hq88qy"
    assert lookup.find("hp7z3a").paths.id == "hp7z3a"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("1", "task 1 of hp7z3a"), ("1.1", "task 1 of hp7z3a"), ("hp7z3a_0", "task 0 of hp7z3a"), ("7", "None")],
)
def test_a_part_of_a_submission(name: str, meant: str, home: Path) -> None:
    assert str(lookup.part(SubmissionPaths(home / "hp7z3a"), name)) == meant


def test_a_file_of_the_same_name_is_no_submission(home: Path, tmp_path: Path) -> None:
    (tmp_path / "hp7z3a").mkdir()
    assert str(lookup.find("hp7z3a")) == "hp7z3a"
    assert lookup.find("hp7z3a").paths.folder == home / "hp7z3a"


@pytest.mark.parametrize("name", ["~nobody-of-that-name", "~nobody-of-that-name/hp7z3a", "a" * 300])
def test_a_path_that_can_not_be_is_a_name_that_stands_for_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        lookup.find(name, tmp_path)
