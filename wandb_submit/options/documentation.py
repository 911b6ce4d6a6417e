"""The options' names and documentation in a function that takes all of them."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import TypeVar, get_type_hints

from wandb_submit.options.table import TABLE, Opt, Options

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
