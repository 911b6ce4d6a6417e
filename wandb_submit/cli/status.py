"""`wandb-submit status`: what runs where."""

from __future__ import annotations

import json

import click

from wandb_submit.cli._options import json_option, submission_argument


@click.command("status", short_help="Show what runs where.")
@submission_argument
@click.option("--all", "show_all", is_flag=True, help="List all submissions of this folder.")
@json_option
def command(submission_id: str | None, show_all: bool, as_json: bool) -> None:
    """Show the agents of a submission (default: the newest), their devices and runs.

    ID is the submission's id or the beginning of it.
    """
    from wandb_submit import records
    from wandb_submit.cli._render import snapshot_json, snapshot_view, table_console
    from wandb_submit.submission import Submission

    found = records.all_submissions() if show_all else [records.find(submission_id)]
    snapshots = [Submission(paths).status() for paths in found]
    if as_json:
        shown = [snapshot_json(snapshot) for snapshot in snapshots]
        click.echo(json.dumps(shown if show_all else shown[0]))
        return
    console = table_console()
    for snapshot in snapshots:
        console.print(snapshot_view(snapshot))
