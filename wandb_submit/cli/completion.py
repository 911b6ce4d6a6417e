"""`wandb-submit completion SHELL`: what a shell needs to complete our commands, options and their values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_WANDB_SUBMIT_COMPLETE"  # click looks for it, by the program's name


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the lines that complete our commands in SHELL: add them to its start-up file.

    \b
      wandb-submit completion bash >> ~/.bashrc
      wandb-submit completion zsh >> ~/.zshrc
      wandb-submit completion fish > ~/.config/fish/completions/wandb-submit.fish
    """  # noqa: D301 click wants the character itself
    completion = get_completion_class(shell)
    assert completion is not None  # noqa: S101 click has these three
    click.echo(completion(ctx.find_root().command, {}, "wandb-submit", _VARIABLE).source())
