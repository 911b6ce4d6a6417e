"""The options' documentation: in a function that takes all of them, and on a page."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import TypeVar, get_type_hints

from wandb_submit.options.table import TABLE, Group, Opt, Options, flag

_F = TypeVar("_F", bound=Callable[..., object])
_WIDTH = 116


def documented(function: _F) -> _F:
    """Gives a function that takes `**options: Unpack[Options]` their names in its signature, and their documentation.

    People then see them in `help()`, in a notebook's completion and in the documentation of the API.
    """
    hints = get_type_hints(Options)
    named = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hints[name]) for name in TABLE
    ]
    signature = inspect.signature(function)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    vars(function)["__signature__"] = signature.replace(parameters=[*own, *named])  # what `inspect` reads
    before, raises, after = inspect.cleandoc(function.__doc__ or "").partition("\nRaises:")
    function.__doc__ = f"{before.rstrip()}\n{arguments()}\n{raises}{after}\n"
    return function


def arguments() -> str:
    """All options as the arguments of a Google-style docstring."""
    return "\n".join(
        textwrap.fill(f"{name}: {words(option)}", _WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8)
        for name, option in TABLE.items()
    )


def words(option: Opt) -> str:
    """What is to be said of an option where there is room."""
    local = f"On a workstation it is {option.local}." if option.local else ""
    return " ".join(part for part in (option.help, option.more, local) if part)


def page() -> str:
    """The reference page of all options, in Markdown."""
    lines = [_PAGE]
    for group in Group:
        options = [(name, option) for name, option in TABLE.items() if option.group is group]
        if options:
            lines += [f"## {group.value}\n", "| flag | template and Python | meaning |", "|---|---|---|"]
            lines += [_row(name, option) for name, option in options] + [""]
    return "\n".join(lines).rstrip() + "\n"


_PAGE = """\
# Options

<!-- Made by `make reference` from wandb_submit/options/table.py. -->

The options of `wandb-submit SWEEP`. Templates use the flag's name without its dashes, Python the same name with
underscores. `--offline`, `--clip`, `--dry-run`, `--wait`, `--detach` and `--json` are no template keys.
"""


def _row(name: str, option: Opt) -> str:
    short = f"`-{option.short}`, " if option.short else ""
    value = f" {option.metavar}" if option.metavar else ""
    keys = [f"`{key}`" for key in dict.fromkeys((flag(name).removeprefix("--"), name))]
    named = ", ".join(keys) if option.template else f"{keys[-1]} (Python)"
    cells = (f"{short}`{flag(name)}{value}`", named, words(option))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
