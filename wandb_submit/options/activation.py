"""The training environment of a task's runs: variables, shell commands before and after, and what `python` is.

The agents themselves run under the Python that submitted. How a shell makes it is `executors.activation`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from wandb_submit.errors import ConfigError
from wandb_submit.options import values

if TYPE_CHECKING:
    from pathlib import Path

_SYNTAX_TIMEOUT_S = 20.0
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
# What others set, and why it cannot be set here; prefixes end with "_".
_NOT_OURS = {
    "SLURM_": "Slurm sets it: name the option with --sbatch",
    "SUBMITIT_": "submitit sets it",
    "WANDB_SWEEP_ID": "every run gets its own sweep's",
    "WANDB_RUN_ID": "every run gets its own",
}
_SENSITIVE_NAME = (
    r"(?i)(?:^|_)(?:API_?KEY|ACCESS_KEY|PRIVATE_KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?:_|$)"
)
_PLACE_NAME = r"(?i)_(?:FILE|PATH|DIR)$"  # such a variable tells where a secret is
# W&B's keys: 40 hexadecimal digits, `local-` before them on servers of one's own, and the longer ones of 2025.
_WANDBS_KEY = r"(?:local-)?[0-9a-f]{40}|wandb_v1_\w{20,}"
_ASSIGNMENT = rf"(?<![\w$])({_NAME})=(\"[^\"]*\"|'[^']*'|[^\s;&|]*)"
_PLAIN_PATH = r"[\w./~+@-]+"


def name_value(text: str) -> tuple[str, str | None]:
    """Reads `NAME=VALUE`; the value is `None` where there is no `=`."""
    name, equals, value = text.partition("=")
    return name, value if equals else None


def variables_of(option: str, value: object) -> dict[str, str]:
    """Checks the variables of runs.

    Raises:
        ConfigError: naming every problem, one per line.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{option} {value!r} is not a mapping of variables: write {{NAME: VALUE}}")
    wrong = ((name, problem) for name, text in value.items() for problem in _problems_of_variable(name, text))
    if found := [f"{option} {name}: {problem}" for name, problem in wrong]:
        raise ConfigError("\n".join(found))
    return {str(name): str(text) for name, text in value.items()}


def commands(option: str, value: object) -> tuple[str, ...]:
    """Checks shell commands.

    Raises:
        ConfigError: naming every problem, one per line.
    """
    given = values.texts(option, value)
    if found := [f"{option} {problem}" for command in given for problem in _problems_of(command)]:
        raise ConfigError("\n".join(found))
    return given


def python_command(option: str, value: object) -> str:
    """Checks what `python` is to stand for.

    Raises:
        ConfigError: if it is not a command.
    """
    command = str(value).strip()
    if not command or "\n" in command:
        raise ConfigError(f"{option} {str(value)!r} is not an interpreter, or a command on one line that ends with one")
    if found := [f"{option} {problem}" for problem in _problems_of(command)]:
        raise ConfigError("\n".join(found))
    return command


def _problems_of_variable(name: object, value: object) -> Iterator[str]:
    if not re.fullmatch(_NAME, str(name)):
        yield "not the name of a variable: write NAME=VALUE"
    elif value is None or isinstance(value, dict | list):
        yield "it has no value: write NAME=VALUE"
    elif "\0" in str(value):
        yield "a variable cannot hold the character NUL"
    elif reason := _not_ours(str(name)):
        yield reason
    elif _is_secret(str(name), str(value)):
        yield _why_no_secret(str(name))


def _not_ours(name: str) -> str | None:
    from wandb_submit.devices.variables import VARIABLES  # here, for `--help` needs nothing of it

    if name in VARIABLES:
        return "it says which GPUs the task was given: ask for GPUs with --gpus-per-task"
    for theirs, reason in _NOT_OURS.items():
        if name == theirs or (theirs.endswith("_") and name.startswith(theirs)):
            return reason
    return None


def _is_secret(name: str, value: str) -> bool:
    """Whether a variable looks as if it held a secret itself, and not the place of one."""
    if re.fullmatch(_WANDBS_KEY, value):
        return True
    counts = not value or value.isdecimal() or value.lower() in ("true", "false")  # MAX_TOKEN=512
    return not counts and re.search(_SENSITIVE_NAME, name) is not None and not re.search(_PLACE_NAME, name)


def _why_no_secret(name: str) -> str:
    return (
        "it looks like a secret, and would be in the job's script, in Slurm's records and in files: "
        f"`export {name}=…` in the shell that you submit from (Slurm passes it on), or log in with `wandb login`"
    )


def _problems_of(command: str) -> Iterator[str]:
    """What keeps a text from being one whole shell command that may stand in a script; repeats no secret."""
    if not command.strip() or "\0" in command:
        yield f"{command!r} is not a shell command"
        return
    for match in re.finditer(_ASSIGNMENT, command):
        name, value = match[1], match[2].strip("\"'")
        if not value.startswith(("$", "`")) and _is_secret(name, value):
            yield f"…{name}=…: {_why_no_secret(name)}"
            return
    from wandb_submit.system import process  # likewise

    checked = process.run(["bash", "-n"], stdin=f"{command}\n", timeout_s=_SYNTAX_TIMEOUT_S)
    if checked.returncode != 0:
        said = checked.stderr.strip().splitlines()[:1] or ["it is not complete"]
        yield f"{command!r} is not a whole shell command: {said[0].removeprefix('bash: ')}"


def interpreter(python: str, workdir: Path) -> str:
    """The command for `python`; a path of an interpreter is made absolute, as runs may change their folder."""
    if not is_path(python):
        return python
    from wandb_submit.system.files import typed_path  # likewise

    return str(workdir / typed_path(python))


def is_path(python: str) -> bool:
    """Whether what `python` stands for is an interpreter's path, and not a command of several words."""
    return "/" in python and re.fullmatch(_PLAIN_PATH, python) is not None
