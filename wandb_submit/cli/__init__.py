"""The command line: one file per command; `wandb-submit SWEEP` is the command `submit`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from wandb_submit import __version__
from wandb_submit.cli._options import GroupedOption
from wandb_submit.cli._words import COMMANDS, refuse
from wandb_submit.errors import WandbSubmitError
from wandb_submit.options.table import Group

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_DEBUG = "--debug"


class _Group(click.Group):
    """Takes what is not a command for the sweep of the command `submit`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        # It imports nothing heavy before it is called.
        command: click.Command = importlib.import_module(f"wandb_submit.cli.{cmd_name}").command
        command.short_help = COMMANDS[cmd_name]
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if _DEBUG in args:  # wherever it stands
            args = [_DEBUG, *(arg for arg in args if arg != _DEBUG)]
        own = {option for parameter in self.get_params(ctx) for option in parameter.opts}
        first = next((arg for arg in args if arg != _DEBUG), None)
        if first is not None and first not in COMMANDS and first not in own:
            if not ctx.resilient_parsing:  # as where a shell completes
                refuse(first)
            at = args.index(first)
            args = [*args[:at], "submit", *args[at:]]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, sweep files, and what `submit` has, for that command may be left out."""
        from wandb_submit.cli import _complete  # here, for `--help` needs nothing of it

        submit = self.get_command(ctx, "submit")
        assert submit is not None  # noqa: S101 it is in the list above
        own = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            return own + submit.shell_complete(ctx, incomplete)
        # Not both: bash drops what it has found so far where click tells it to complete files.
        return [*own, *_complete.sweep_files(incomplete)] or _complete.files(ctx, submit.params[0], incomplete)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "SWEEP [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...", prefix="       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        submit = self.get_command(ctx, "submit")
        assert submit is not None  # noqa: S101 it is in the list above
        options = [option for option in submit.get_params(ctx) if isinstance(option, GroupedOption)]
        _section(ctx, formatter, "Options needed first", [option for option in options if option.first])
        for group in Group:
            _section(ctx, formatter, group.value, [o for o in options if o.group is group and not o.first])
        _section(ctx, formatter, "General", self.get_params(ctx))
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _section(
    ctx: click.Context, formatter: click.HelpFormatter, heading: str, options: Sequence[click.Parameter]
) -> None:
    if rows := [row for option in options if (row := option.get_help_record(ctx))]:
        with formatter.section(heading):
            formatter.write_dl(rows)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
)
@click.option(_DEBUG, is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="wandb-submit")
def main(debug: bool) -> None:
    """Run a W&B sweep in parallel: a Slurm job array, or one agent per GPU of this machine.

    SWEEP is a sweep's id, project/id, entity/project/id, its URL, or a sweep YAML file, from which the sweep is
    then created.

    \b
      wandb-submit me/vision/k3f9x2ab --array 4 --gpus-per-task 1
      wandb-submit sweep.yaml --array 4 --executor local --offline
    """  # noqa: D301 click wants the character itself


def run() -> None:
    """Runs the command line; errors of ours become one message and their exit status."""
    debug = _DEBUG in sys.argv
    try:
        # Not standalone: click would turn Ctrl-C into "Aborted!" and exit status 1.
        sys.exit(main.main(prog_name="wandb-submit", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except WandbSubmitError as error:
        if debug:
            raise
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
