"""Whether there is what is to stand for `python` in runs; where it is missing, another `python` would run unnoticed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from wandb_submit.errors import ConfigError, WandbSubmitError
from wandb_submit.spec import SubmissionSpec
from wandb_submit.system import process

_SHELL_TIMEOUT_S = 20.0
_PLAIN_WORD = re.compile(r"[\w./+@][\w./+@-]*")
_MORE_THAN_WORDS = re.compile(r"[`();|&<>]")  # what a shell would do more for than find words


def check(spec: SubmissionSpec) -> None:
    """Makes sure that what is to stand for `python` is there, where that can be known where one submits.

    A Slurm node may have what is not here, and lines of a setup may make it: there each task looks by itself.

    Raises:
        ConfigError: if it is not there.
    """
    active = spec.activation
    if spec.executor == "slurm" or active.setup:
        return
    if wrong := why_not(spec, {**os.environ, **active.env}):
        raise ConfigError(wrong)


def why_not(spec: SubmissionSpec, env: Mapping[str, str], own: Path | None = None) -> str | None:
    """Why what is to stand for `python` cannot be executed here; `None` where it can, and where that cannot be told.

    Args:
        spec: what was asked for.
        env: the environment of runs.
        own: the folder of the submission's own `python`, which is not the one that it calls.
    """
    python = spec.activation.python
    program = None if python is None else _first_word(python, env)
    if not program:
        return None
    if "/" in program:
        path = spec.workdir / program
        if shutil.which(path) is not None:
            return None
        return f"--python {python!r}: {_why_no_program(path)}"
    folders = [folder for folder in os.get_exec_path(env) if folder != str(own)]
    if shutil.which(program, path=os.pathsep.join(folders)) is not None:
        return None
    return (
        f"--python {python!r}: there is no program {program!r} on PATH, which is {os.pathsep.join(folders)!r}: "
        "name the interpreter by its path, or a command that is there"
    )


def _first_word(python: str, env: Mapping[str, str]) -> str | None:
    """The program that a command for `python` begins with, as a shell reads it; `None` if that is not so simple."""
    if _PLAIN_WORD.fullmatch(python):
        return python
    if _MORE_THAN_WORDS.search(python):
        return None
    try:
        answer = process.run(
            ["/bin/bash", "-c", f'set -- {python}\nprintf %s "$1"'], env=dict(env), timeout_s=_SHELL_TIMEOUT_S
        )
    except WandbSubmitError:
        return None
    word = answer.stdout if answer.returncode == 0 else ""
    return None if word.startswith("-") else word  # an option of exec's


def _why_no_program(path: Path) -> str:
    if path.is_dir():
        inside = next((one for one in (path / "bin" / "python", path / "python") if one.is_file()), None)
        return f"it is a folder: name the interpreter in it{f', {inside}' if inside else ''}"
    if path.exists():
        return f"{path} is not executable: `chmod +x` it, or name another interpreter"
    return f"there is no file {path}: name the interpreter of the runs' environment"
