"""Options and arguments that several commands share, and those of a submission."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from wandb_submit.cli import _complete
from wandb_submit.options import table, values
from wandb_submit.options.table import Group, Opt, Options

if TYPE_CHECKING:
    from wandb_submit.submission.submission import Submission

_F = TypeVar("_F", bound=Callable[..., Any])

submission_argument = click.argument(
    "submission_id", metavar="[ID]", required=False, shell_complete=_complete.submissions_and_runs
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def find_submission(name: str | None) -> Submission:
    """The submission that a name stands for; says so where that is the name of a part of it."""
    from wandb_submit.submission import lookup
    from wandb_submit.submission.submission import Submission

    found = lookup.find(name)
    if found.part:
        click.echo(
            f"note: {name} is {found.part} of the submission {found.paths.id}, which all of this is about", err=True
        )
    return Submission(found.paths)


def seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Reads an option that is a number of seconds, or one with a unit, such as `5m`."""
    return None if value is None else values.seconds(parameter.opts[0], value)


class GroupedOption(click.Option):
    """An option of `submit` with its place in the help.

    Attributes:
        group: its heading.
        first: whether it stands on top, among those that people need on their first day.
    """

    def __init__(self, *args: Any, group: Group, first: bool = False, **kwargs: Any) -> None:  # noqa: ANN401 click's
        super().__init__(*args, **kwargs)
        self.group = group
        self.first = first


def grouped(*names: str, group: Group, first: bool = False, **kwargs: Any) -> Callable[[_F], _F]:  # noqa: ANN401 click's
    """Declares an option of `submit` that is the command line's alone."""
    return click.option(*names, cls=GroupedOption, group=group, first=first, **kwargs)


def submission_options(function: _F) -> _F:
    """Adds every option of the table."""
    for name, option in reversed(list(table.TABLE.items())):
        function = _declared(name, option)(function)
    return function


def given(typed: Mapping[str, Any]) -> Options:
    """What was typed, as options; lists and mappings of which nothing was typed are left out."""
    read = {name: _typed(table.TABLE[name], value) for name, value in typed.items() if value not in (None, ())}
    return cast(Options, read)


def which_gpus(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Refuses `--gpus`, which is a number for Slurm, and may be meant as GPUs' names."""
    if value is not None:
        raise click.UsageError(
            f"--gpus {value}: a number of GPUs or their names? Write --gpus-per-task {value} for the number that each "
            f"task gets, or --gpu-ids {value} for GPUs of this machine to choose from.",
            context,
        )


def _declared(name: str, option: Opt) -> Callable[[_F], _F]:
    letters = [f"-{option.short}"] if option.short else []
    kind: dict[str, Any] = {"metavar": option.metavar} if option.metavar else {"is_flag": True, "default": None}
    return grouped(
        *letters,
        table.flag(name),
        name,
        group=option.group,
        first=option.first,
        multiple=option.many or option.pair is not None,
        help=option.help,
        shell_complete=_complete.VALUES.get(name),
        **kind,
    )


def _typed(option: Opt, value: Any) -> object:  # noqa: ANN401 a text, a flag's truth or texts
    if option.pair is not None:
        return dict(map(option.pair, cast(Sequence[str], value)))
    return list(value) if option.many else value
