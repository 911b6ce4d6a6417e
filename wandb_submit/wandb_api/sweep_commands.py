"""Slips in a sweep's `command:` and `program:`, which W&B takes, and with which no run gets what was meant for it."""

from __future__ import annotations

import difflib
import itertools
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# https://docs.wandb.ai/models/sweeps/define-sweep-configuration: what stands alone in an element of `command:`.
MACROS = (
    *("env", "interpreter", "program", "args", "args_no_equals", "args_no_hyphens", "args_no_boolean_flags"),
    *("args_append_hydra", "args_override_hydra", "args_json", "args_json_file"),
)
_DEFAULT = ("${env}", "${interpreter}", "${program}", "${args}")
_STARTERS = re.compile(r"\$\{interpreter\}|-.*|(.*/)?(python[\d.]*|bash|sh|torchrun|accelerate|launch|uv|run)")
_ENVVAR = re.compile(r"\$\{envvar:[A-Z0-9_]*\}")
_SCRIPTS = (".py", ".sh")


def command_errors(config: Mapping[str, object]) -> Iterator[str]:
    """What keeps any run from starting."""
    command, program = config.get("command"), config.get("program")
    if isinstance(command, str):
        words = ", ".join(_quoted(word) for word in _split(command))
        yield f"`command:` is a text: write a list, [{words}]"
    elif command is not None and not isinstance(command, list | tuple):
        yield "`command:` is not a list"
    elif odd := [element for element in command or () if isinstance(element, dict | list | tuple)]:
        yield f"`command:` has an element that is not a text: {odd[0]!r}"
    if program is not None and not isinstance(program, str):
        yield "`program:` is not a text"


def command_warnings(config: Mapping[str, object]) -> Iterator[str]:
    """What leaves runs without some of their arguments."""
    command = config.get("command")
    elements = [str(element) for element in command] if isinstance(command, list | tuple) else []
    executed = next((element for element in elements if element != "${env}"), "")
    if executed and "$" not in executed and shutil.which(executed) is None:
        is_not = "no executable file here" if "/" in executed else "not on PATH here"
        yield f"`command:` executes {executed}, which is {is_not}"
    for text in elements:
        if text.startswith("${") and text.endswith("}") and text.count("${") == 1:
            if text[2:-1] not in MACROS and not _ENVVAR.fullmatch(text):
                yield f"`{text}` in `command:` stands for nothing: {_meant(text[2:-1])}"
        elif (bare := text.strip("${}() ")) in MACROS and text[:1] in "${":
            yield f"`{text}` in `command:` is no macro: did you mean `${{{bare}}}`?"
        elif inside := [name for name in MACROS if f"${{{name}}}" in text]:
            yield f"`${{{inside[0]}}}` in `command:` is only replaced where it stands alone, not in {text!r}"
        elif "${env:" in text:
            yield f"{text!r} in `command:` stays as it is: an environment variable is `${{envvar:NAME}}`"


def missing_script(config: Mapping[str, object]) -> str | None:
    """The script that runs would be started with and that is not there, relative to the current folder."""
    command, program = config.get("command") or _DEFAULT, config.get("program")
    if not isinstance(command, list | tuple):
        return None
    if isinstance(program, str) and "${program}" in command and not Path(program).exists():
        first, _, more = program.partition(" ")
        return program if program.endswith(_SCRIPTS) or (more and Path(first).is_file()) else None
    # Of what another program than these does with its arguments, such as docker, nothing is known.
    rest = itertools.dropwhile(_STARTERS.fullmatch, (str(element) for element in command if element != "${env}"))
    script = next(rest, "")
    is_script = script.endswith(_SCRIPTS) and not re.search(r"[\s$]", script)
    executed = next((element for element in command if element != "${env}"), "")  # `command_warnings` looks at it
    is_missing = not Path(script).is_absolute() and not Path(script).exists()
    return script if is_script and script != executed and is_missing else None


def _meant(name: str) -> str:
    """What a macro's name may have been meant to be."""
    variable = re.fullmatch(r"(?:env(?:var)?:)?([A-Za-z0-9_]+)", name.replace(" ", ""))
    if variable and (":" in name or name.isupper()):
        return f"an environment variable is `${{envvar:{variable[1].upper()}}}`"
    near = difflib.get_close_matches(name.strip().lower().replace("-", "_"), MACROS, n=1, cutoff=0.6)
    return f"did you mean `${{{near[0]}}}`?" if near else "the macros are " + ", ".join(f"${{{one}}}" for one in MACROS)


def _split(text: str) -> Sequence[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _quoted(word: str) -> str:
    return f'"{word}"' if re.search(r"[^\w./=-]", word) else word
