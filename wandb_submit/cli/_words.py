"""Words that people type for a command where there is none: none of them is looked up as a sweep without need."""

from __future__ import annotations

import os
import re

from wandb_submit.errors import ConfigError

# In the order of the help, each with its line there, for which no command has to be imported.
COMMANDS = {
    "submit": "Start agents for a sweep (the command may be left out).",
    "status": "Show what runs where.",
    "logs": "Show what runs and agents printed.",
    "wait": "Follow a submission to its end.",
    "cancel": "End a submission's agents and their runs.",
    "templates": "Site profiles for --template: list, show, check.",
    "doctor": "Check Slurm, W&B, Python, folders and devices, with remedies.",
    "server": "The offline sweep server: start, stop, status, env, log, backup.",
    "sync": "Bring an offline sweep to W&B.",
    "demo": "Run a small sweep here, without W&B, a GPU or Slurm.",
    "completion": "Complete commands, options and ids in bash, zsh or fish.",
}
# What other programs call it.
_ELSEWHERE = {
    "status": "ls list ps top jobs queue squeue show info describe watch agents tasks runs state sweeps",
    "logs": "log tail cat output less",
    "cancel": "stop kill abort end quit scancel terminate delete remove rm shutdown halt pause",
    "wait": "follow attach join monitor",
    "submit": "run start launch agent create sweep sbatch resume resubmit restart retry rerun requeue continue",
    "doctor": "check test diagnose debug verify",
    "sync": "upload push export",
    "server": "serve daemon offline",
    "`wandb login`": "login relogin",
    "--help": "help usage man commands",
    "--version": "version",
}
_MEANT = {word: command for command, words in _ELSEWHERE.items() for word in words.split()}


def refuse(word: str) -> None:
    """Refuses a plain word, or nearly a command, that is no file and of which no server would make a sweep's id.

    Raises:
        ConfigError: with the command that may have been meant.
    """
    from wandb_submit.wandb_api.sweep_names import FORMS, is_id  # here, for `--help` needs nothing of it

    is_word = re.fullmatch(r"[A-Za-z][A-Za-z_-]*", word) or (re.fullmatch(r"\w+", word) and _near(word))
    if is_word and not is_id(word) and not os.path.lexists(word):
        raise ConfigError(f"{no_command(word)} (a sweep is {FORMS})")


def no_command(word: str) -> str:
    """Says that a word is no command, and what may have been meant: another one, or a file."""
    from wandb_submit.wandb_api.sweep_names import near_file  # likewise

    meant = near_file(word) or _near(word)
    there = f"did you mean {meant}?" if meant else f"they are {', '.join(COMMANDS)}"
    return f"there is no command {word!r}: {there}"


def _near(word: str) -> str | None:
    import difflib  # likewise

    near = difflib.get_close_matches(word.lower(), (*COMMANDS, *_MEANT), n=1, cutoff=0.75)
    return _MEANT.get(near[0], near[0]) if near else None
