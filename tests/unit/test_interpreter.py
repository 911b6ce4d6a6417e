"""A `--python` that is not there: told where one submits or in the task, and what cannot be known is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unit.conftest import Program

from wandb_submit.agent.runs import interpreter
from wandb_submit.errors import ConfigError
from wandb_submit.spec import Activation, ArraySpec, SubmissionSpec


def spec(python: str, workdir: Path, *, executor: str = "local", setup: tuple[str, ...] = ()) -> SubmissionSpec:
    active = Activation(setup=setup, python=python)
    return SubmissionSpec(executor=executor, array=ArraySpec(count=1), workdir=workdir, activation=active)


def why_not(python: str, workdir: Path, own: Path | None = None, **env: str) -> str | None:
    return interpreter.why_not(spec(python, workdir), {**os.environ, **env}, own)


def executable(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("python", "reason"),
    [
        ("no-env/bin/python", "there is no file {}/no-env/bin/python: name the interpreter"),
        ("no-env/bin/python3.11", "there is no file {}/no-env/bin/python3.11"),
        ("./no-env/bin/python -u", "there is no file {}/no-env/bin/python"),
        ('"$HERE/no-env/python" -u', "there is no file {}/no-env/python"),
        ("env9", "there is no program 'env9' on PATH, which is "),
        ("env9 python", "there is no program 'env9' on PATH, which is "),
        ("./env", "it is a folder: name the interpreter in it, {}/env/bin/python"),
        ("./text", "{}/text is not executable"),
        ("./gone/python", "there is no file {}/gone/python"),
    ],
)
def test_a_python_that_is_not_there_is_told(python: str, reason: str, tmp_path: Path) -> None:
    executable(tmp_path / "env" / "bin" / "python")
    (tmp_path / "text").write_text("")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "python").symlink_to("/no/such/python")
    said = why_not(python, tmp_path, HERE=str(tmp_path))
    assert said is not None
    assert said.startswith("--python ")
    assert reason.format(tmp_path) in said


@pytest.mark.parametrize(
    "python",
    ["env/bin/python", "./env/bin/python -u", '"$HERE/env/bin/python" -u', "env A=1 python", "-a name python", "$NONE"],
)
def test_a_python_that_is_there_or_may_be_is_well(python: str, tmp_path: Path) -> None:
    executable(tmp_path / "env" / "bin" / "python")
    assert why_not(python, tmp_path, HERE=str(tmp_path)) is None


def test_what_a_shell_would_do_more_for_than_find_words_is_not_done(tmp_path: Path) -> None:
    assert why_not("$(touch done; echo nosuchcmd)", tmp_path) is None
    assert not Path("done").exists()


def test_a_submissions_own_python_is_not_the_one_that_it_calls(program: Program, tmp_path: Path) -> None:
    theirs, own = program("python3", "true").parent, tmp_path / "own"
    executable(own / "python3")
    assert why_not("python3", tmp_path, own, PATH=f"{own}:{theirs}") is None
    assert why_not("python3", tmp_path, own, PATH=str(own)) is not None


@pytest.mark.parametrize(("executor", "setup"), [("slurm", ()), ("local", ("module load x",))])
def test_what_only_a_task_can_know_is_left_to_it(executor: str, setup: tuple[str, ...], tmp_path: Path) -> None:
    interpreter.check(spec("/no/such/python", tmp_path, executor=executor, setup=setup))
    with pytest.raises(ConfigError, match="--python '/no/such/python': there is no file"):
        interpreter.check(spec("/no/such/python", tmp_path))
