"""What the shell commands of a template need that is not on this machine: `module`, `conda`, a file to source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from wandb_submit.errors import UnavailableError
from wandb_submit.spec import Activation
from wandb_submit.system import process
from wandb_submit.system.files import typed_path

_TIMEOUT_S = 20.0
_INSIDE = re.compile(r"\$\(([^()]*)\)|`([^`]*)`")  # a command whose output is part of a word
_PARAMETER = re.compile(r"\$\{[^{}]*\}")
_BETWEEN = re.compile(r"\|\||&&|[\n;|&(){}]")  # what stands between two simple commands
_NO_COMMAND = re.compile(r"(?:^|\s)#.*|(?:\d*|&)(?:<|>>?)&?\s*[^\s;|&]+")  # comments and redirections
_ASSIGNMENT = re.compile(r"\w+=\S*")
_PLAIN = re.compile(r"[\w./+~-]*[\w/]")
_KEYWORDS = frozenset(("if", "then", "elif", "else", "while", "until", "do", "!", "time", "exec", "eval"))
_LOOKS = frozenset(("type", "hash", "which"))  # what these are asked for is what is needed
_SOURCES = frozenset(("source", "."))
_BRING = frozenset(("module", "ml", "spack"))  # what makes further programs known
# Prints the names that it does not know. Site profiles define `module` for login shells, batch shells inherit it.
_UNKNOWN = 'for name; do type -- "$name" >/dev/null 2>&1 || printf "%s\\n" "$name"; done'


def missing(activation: Activation) -> list[str]:
    """Says which programs and files the setup, the teardown and `python` need that are not here.

    It reads the commands as plain words: what a variable stands for, and what comes from a module or a sourced file,
    is not judged.
    """
    lines = [*activation.setup, *([activation.python] if activation.python else []), *activation.teardown]
    commands = [words for line in lines for words in _simple_commands(line)]
    unknown = _unknown([name for name in dict.fromkeys(words[0] for words in commands) if _PLAIN.fullmatch(name)])
    found: dict[str, None] = {}
    brought = False
    for name, *rest in commands:
        file = typed_path(rest[0]) if name in _SOURCES and rest and _PLAIN.fullmatch(rest[0]) else None
        if file is not None and not file.exists():
            found[f"no file {file} here"] = None
        elif name in unknown and not brought:
            found[f"no `{name}` here"] = None
        brought = brought or (name in _BRING and name not in unknown)
        brought = brought or (file is not None and file.exists() and file != Path("/etc/profile"))
    return list(found)


def _simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each simple command of a line, from the program's name on."""
    inner = [before or after for before, after in _INSIDE.findall(line)]
    outer = _INSIDE.sub("$0", line)
    while _PARAMETER.search(outer):  # one may stand in another
        outer = _PARAMETER.sub("$0", outer)
    for text in [*inner, *_BETWEEN.split(_NO_COMMAND.sub("", outer))]:
        words = [word.strip("\"'") for word in text.split()]
        while words and (words[0] in _KEYWORDS or _ASSIGNMENT.fullmatch(words[0])):
            words = words[1:]
        if words and words[0] in _LOOKS and "||" not in line:
            words = [word for word in words[1:] if not word.startswith("-")]
        if words:
            yield words


def _unknown(names: Sequence[str]) -> set[str]:
    """Those of the names that neither a shell that batch jobs have nor a login shell knows."""
    for shell in ("-c", "-lc"):
        if names:
            try:
                answer = process.run(["bash", shell, _UNKNOWN, "bash", *names], timeout_s=_TIMEOUT_S)
            except UnavailableError:  # a profile that hangs
                continue
            names = [name for name in names if name in answer.stdout.splitlines()]
    return set(names)
