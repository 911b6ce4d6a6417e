"""`wandb-submit templates`: site profiles that can be named with --template."""

from __future__ import annotations

import json
from pathlib import Path

import click

from wandb_submit.cli import _complete
from wandb_submit.cli._options import json_option


@click.group("templates")
def command() -> None:
    """Show the site profiles that --template takes.

    They are looked up in the folders of $WANDB_SUBMIT_TEMPLATES, in ~/.config/wandb-submit/templates and in the
    package. To make one of your own, write what `show` prints to a file there and change it.
    """


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the templates, and where each one is."""
    from wandb_submit.options import templates

    rows = [
        {"name": name, "description": templates.description(path), "path": str(path)}
        for name, path in sorted(templates.available().items())
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        click.echo(f"{row['name'].ljust(width)}  {row['description']}")
        if Path(row["path"]).parent != templates.packaged():
            click.echo(f"{' ' * width}  {row['path']}")


@command.command()
@click.argument("name", shell_complete=_complete.templates)
def show(name: str) -> None:
    """Print the template NAME (or file) as it is, with its comments."""
    from wandb_submit.options import templates

    click.echo(templates.text(templates.find(name)), nl=False)


@command.command()
@click.argument("file", shell_complete=_complete.templates)
def check(file: str) -> None:
    """Check the template FILE (or name): its keys, values and commands. Submits nothing.

    All problems are in one message, with exit status 2. What its commands need and this machine lacks, such as
    `module`, is a note: compute nodes may have it.
    """
    from wandb_submit.executors import catalog
    from wandb_submit.options import build, setup_needs

    spec = build.check_template(file, catalog.pick)
    for need in setup_needs.missing(spec.activation):
        click.echo(f"note: {need}; where the tasks run it must be there", err=True)
    click.echo(f"{file}: all well")
