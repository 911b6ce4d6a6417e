"""The training environment of a task's runs: variables, shell commands before and after, and what `python` is.

The agents themselves run under the Python that submitted. Both executors let a shell run the same lines, so that a
template means the same on a cluster and on a workstation.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from wandb_submit.devices import variables
from wandb_submit.errors import ConfigError
from wandb_submit.spec import Activation
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.system import process

_SYNTAX_TIMEOUT_S = 20.0
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
# What others set, and why it cannot be set here; prefixes end with "_".
_NOT_OURS = {
    **dict.fromkeys(variables.VARIABLES, "it says which GPUs the task was given: ask for GPUs with --gpus-per-task"),
    "SLURM_": "Slurm sets it: name the option with --sbatch",
    "SUBMITIT_": "submitit sets it",
    "WANDB_SWEEP_ID": "every run gets its own sweep's",
    "WANDB_RUN_ID": "every run gets its own",
}
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|ACCESS_KEY|PRIVATE_KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?:_|$)",
    re.IGNORECASE,
)
_PLACE_NAME = re.compile(r"_(?:FILE|PATH|DIR)$", re.IGNORECASE)  # such a variable tells where a secret is
# W&B's keys: 40 hexadecimal digits, `local-` before them on servers of one's own, and the longer ones of 2025.
_SECRET_VALUE = re.compile(r"(?:local-)?[0-9a-f]{40}|wandb_v1_\w{20,}")
_ASSIGNMENT = re.compile(rf"(?<![\w$])({_NAME})=(\"[^\"]*\"|'[^']*'|[^\s;&|]*)")
# A command may also end the shell (`exit`, or `set -e` and an error): then the trap says which one it was, unless
# `setup_at` is empty. `run_logs.failed_setup` reads what is said.
_WATCH_SETUP = (
    "setup_at=1",
    'setup_ended() { (($1 == 0)) || setup_failed "$1"; setup_at=$(($2 + 1)); }',
    "setup_failed() {",
    "  [[ $setup_at ]] || return 0",
    '  echo "wandb-submit: command $setup_at of setup failed with exit status $1" >&2',
    "  setup_at=",
    '  exit "$(($1 ? $1 : 1))"',
    "}",
    "trap 'setup_failed $?' EXIT",
)
_PLAIN_PATH = re.compile(r"[\w./~+@-]+")


def read(values: Mapping[str, object], workdir: Path) -> Activation:
    """Reads the keys `env`, `setup`, `teardown` and `python` of merged options.

    Args:
        values: the options; a list of commands may also be one text.
        workdir: the folder that a relative path of an interpreter starts from.

    Raises:
        ConfigError: naming every problem, one per line.
    """
    env, setup, teardown = values.get("env") or {}, _commands(values, "setup"), _commands(values, "teardown")
    problems = list(_problems_of_env(env))
    for key, commands in (("setup", setup), ("teardown", teardown)):
        problems += [f"--{key} {problem}" for command in commands for problem in _problems_of(command)]
    python = values.get("python")
    if python is not None and (not str(python).strip() or "\n" in str(python).strip()):
        problems.append(f"--python {str(python)!r} is not an interpreter, or a command on one line that ends with one")
    elif python is not None:
        problems += [f"--python {problem}" for problem in _problems_of(str(python))]
    if problems:
        raise ConfigError("\n".join(problems))
    return Activation(
        env={str(name): str(value) for name, value in env.items()} if isinstance(env, dict) else {},
        setup=tuple(setup),
        teardown=tuple(teardown),
        python=None if python is None else _interpreter(str(python).strip(), workdir),
    )


def lines_before(activation: Activation, paths: SubmissionPaths) -> list[str]:
    """The lines that a shell runs before a task's agents begin; a command that fails ends the task."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in activation.env.items()]
    if activation.setup:
        lines += _WATCH_SETUP
        for number, command in enumerate(activation.setup, 1):
            lines += [command, f"setup_ended $? {number}"]
        lines += ["setup_at=", "set +eu"]  # what follows is not the setup's, and goes on after an error
    if activation.python is not None:
        lines.append(f"# `python` is {activation.python}")
        lines.append(f"export PATH={shlex.quote(_first_on_path(activation.python, paths))}:$PATH")
    return lines


def lines_after(activation: Activation) -> list[str]:
    """The lines that a shell runs when a task's agents have ended."""
    return list(activation.teardown)


def write_python(activation: Activation, paths: SubmissionPaths) -> None:
    """Makes what stands for `python` and `python3` in runs, where a folder on `PATH` is not enough.

    Raises:
        OSError: if it cannot be written.
    """
    if activation.python is None or not _needs_program(activation.python):
        return
    paths.bin.mkdir(mode=0o700)
    # It takes itself off PATH: what it calls may be `python`, too.
    text = f"""\
#!/bin/bash
# What `python` is for the runs of this submission.
here={shlex.quote(str(paths.bin))}
PATH=:$PATH: PATH=${{PATH//:"$here":/:}} PATH=${{PATH#:}} PATH=${{PATH%:}}
exec {activation.python} "$@"
"""
    program = paths.bin / "python"
    program.write_text(text)
    program.chmod(0o700)
    (paths.bin / "python3").symlink_to("python")


def _commands(values: Mapping[str, object], key: str) -> list[str]:
    given = values.get(key) or []
    return [str(command) for command in given] if isinstance(given, list) else [str(given)]


def _problems_of_env(env: object) -> Iterator[str]:
    if not isinstance(env, dict):
        yield f"env: {env!r} is not a mapping of variables"
        return
    for name, value in env.items():
        if not re.fullmatch(_NAME, str(name)):
            yield f"--env {name}: not the name of a variable: write NAME=VALUE"
        elif value is None or isinstance(value, dict | list):
            yield f"--env {name}: it has no value: write NAME=VALUE"
        elif "\0" in str(value):
            yield f"--env {name}: a variable cannot hold the character NUL"
        elif reason := _not_ours(str(name)):
            yield f"--env {name}: {reason}"
        elif _is_secret(str(name), str(value)):
            yield f"--env {name}: {_why_no_secret(str(name))}"


def _not_ours(name: str) -> str | None:
    for theirs, reason in _NOT_OURS.items():
        if name == theirs or (theirs.endswith("_") and name.startswith(theirs)):
            return reason
    return None


def _is_secret(name: str, value: str) -> bool:
    """Whether a variable looks as if it held a secret itself, and not the place of one."""
    if _SECRET_VALUE.fullmatch(value):
        return True
    counts = not value or value.isdecimal() or value.lower() in ("true", "false")  # MAX_TOKEN=512
    return not counts and _SECRET_NAME.search(name) is not None and not _PLACE_NAME.search(name)


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
    for match in _ASSIGNMENT.finditer(command):
        name, value = match[1], match[2].strip("\"'")
        if not value.startswith(("$", "`")) and _is_secret(name, value):
            yield f"…{name}=…: {_why_no_secret(name)}"
            return
    checked = process.run(["bash", "-n"], stdin=f"{command}\n", timeout_s=_SYNTAX_TIMEOUT_S)
    if checked.returncode != 0:
        said = checked.stderr.strip().splitlines()[:1] or ["it is not complete"]
        yield f"{command!r} is not a whole shell command: {said[0].removeprefix('bash: ')}"


def _interpreter(python: str, workdir: Path) -> str:
    """The command for `python`; a path of an interpreter is made absolute, as runs may change their folder."""
    if not _is_path(python):
        return python
    return str(workdir / Path(python).expanduser())


def _is_path(python: str) -> bool:
    return "/" in python and _PLAIN_PATH.fullmatch(python) is not None


def _needs_program(python: str) -> bool:
    return not (_is_path(python) and Path(python).name == "python")


def _first_on_path(python: str, paths: SubmissionPaths) -> str:
    """What comes first on runs' `PATH`; beside an interpreter lie the programs of its environment, such as torchrun."""
    folders = [str(paths.bin)] if _needs_program(python) else []
    if _is_path(python):
        folders.append(str(Path(python).parent))
    return ":".join(folders)
