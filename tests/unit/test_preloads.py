"""A module that the runs' Python does not find is told before anything is created; what cannot be known is not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from unit.conftest import Program

from wandb_submit.errors import ConfigError
from wandb_submit.spec import Activation, ArraySpec, Preload, SubmissionSpec
from wandb_submit.submission import preloads

CONFIG = {"program": "train.py"}


@pytest.fixture(autouse=True)
def python(program: Program) -> None:
    """The first `python` on PATH, outside of the system's folders."""
    program("python", f'exec {sys.executable} "$@"')


def spec(tmp_path: Path, *modules: str, **changes: Any) -> SubmissionSpec:
    asked: dict[str, Any] = {"executor": "local", "preload": Preload(modules=modules), **changes}
    return SubmissionSpec(array=ArraySpec(count=1), workdir=tmp_path, **asked)


@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_a_module_that_is_not_there_is_named(executor: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--preload nonsense: .*/python, which the runs would have"):
        preloads.check(spec(tmp_path, "json", "nonsense", executor=executor), CONFIG)


def test_modules_are_looked_for_as_runs_find_them_and_not_imported(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "beside.py").write_text("raise SystemExit(3)")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other.py").write_text("")
    there = Activation(env={"PYTHONPATH": str(tmp_path / "elsewhere")})
    preloads.check(spec(tmp_path, "beside", "json.decoder", "other", activation=there), {"program": "code/train.py"})
    with pytest.raises(ConfigError, match="--preload beside"):
        preloads.check(spec(tmp_path, "beside"), CONFIG)


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": Activation(setup=("module load torch",))},
        {"activation": Activation(python="apptainer exec train.sif python")},
        {"preload": Preload(modules=("nonsense",), required=False)},
        {"preload": None},
        {"executor": "slurm", "activation": Activation(python="/usr/bin/python3")},
    ],
)
def test_what_cannot_be_known_here_is_left_to_the_agents(changes: dict[str, Any], tmp_path: Path) -> None:
    preloads.check(spec(tmp_path, "nonsense", **changes), CONFIG)


@pytest.mark.parametrize(
    "command",
    [
        ["${interpreter}", "${program}"],
        ["${env}", "python", "-m", "train", "${args}"],
        ["python", "${program}", "${args}"],
        [sys.executable, "${program}"],
    ],
)
def test_a_command_of_the_sweeps_own_says_which_python_is_asked(command: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--preload nonsense"):
        preloads.check(spec(tmp_path, "nonsense"), {**CONFIG, "command": command})


@pytest.mark.parametrize(
    "command", [["/opt/python", "${program}"], ["apptainer", "exec", "x.sif", "python"], ["${env}"]]
)
def test_another_command_is_left_to_the_agents(command: list[str], tmp_path: Path) -> None:
    preloads.check(spec(tmp_path, "nonsense"), {**CONFIG, "command": command})


def test_an_interpreter_that_fails_is_left_to_the_agents(program: Program, tmp_path: Path) -> None:
    program("python", "exit 1")
    preloads.check(spec(tmp_path, "nonsense"), CONFIG)
