"""The shell lines that make the environment of a task's runs, and what stands for `python` there.

Every executor lets a shell run the same lines, so that a template means the same on a cluster and on a workstation.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from wandb_submit.options.activation import is_path
from wandb_submit.spec import Activation
from wandb_submit.store.paths import SubmissionPaths

# A command may also end the shell (`exit`, or `set -e` and an error): then the trap says which one it was, unless
# `setup_at` is empty. `store.logs.failed_setup` reads what is said.
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


def _needs_program(python: str) -> bool:
    return not (is_path(python) and Path(python).name == "python")


def _first_on_path(python: str, paths: SubmissionPaths) -> str:
    """What comes first on runs' `PATH`; beside an interpreter lie the programs of its environment, such as torchrun."""
    folders = [str(paths.bin)] if _needs_program(python) else []
    if is_path(python):
        folders.append(str(Path(python).parent))
    return ":".join(folders)
