"""Which template a wrong value came from: nobody has typed the option that its message names."""

from __future__ import annotations

from collections.abc import Callable

from wandb_submit.errors import ConfigError, WandbSubmitError
from wandb_submit.options import templates
from wandb_submit.options.table import Options


def named(error: ConfigError, options: Options, build: Callable[[Options], object]) -> ConfigError:
    """The same error, with each problem that a template has by itself marked by its name.

    Args:
        error: what `build` raised; a problem per line.
        options: what it raised it for.
        build: checks options.
    """
    typed = _problems({**options, "templates": None}, build)
    by_template = {name: _problems({"templates": [name]}, build) for name in templates.asked_for(options)}

    def marked(problem: str) -> str:
        names = [name for name, problems in by_template.items() if problem in problems]
        return f"{problem} (in the template {names[-1]})" if names and problem not in typed else problem

    return ConfigError("\n".join(map(marked, str(error).splitlines())))


def _problems(options: Options, build: Callable[[Options], object]) -> list[str]:
    try:
        build(options)
    except WandbSubmitError as error:
        return str(error).splitlines()
    return []
