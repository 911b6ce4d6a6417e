"""`wandb-submit status`: what runs where."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from wandb_submit.cli._options import json_option, submission_argument
from wandb_submit.errors import WandbSubmitError

if TYPE_CHECKING:
    from wandb_submit.snapshot import Snapshot


@click.command("status", short_help="Show what runs where.")
@submission_argument
@click.option("--all", "show_all", is_flag=True, help="List all submissions of this folder.")
@json_option
def command(submission_id: str | None, show_all: bool, as_json: bool) -> None:
    """Show the agents of a submission (default: the newest), their devices and runs.

    ID is the submission's id or the beginning of it.
    """
    from wandb_submit import records
    from wandb_submit.cli._render import show, snapshot_json, snapshot_view
    from wandb_submit.submission import Submission

    snapshots = all_snapshots() if show_all else [Submission(records.find(submission_id)).status()]
    if as_json:
        shown = [snapshot_json(snapshot) for snapshot in snapshots]
        click.echo(json.dumps(shown if show_all else shown[0]))
        return
    for snapshot in snapshots:
        show(snapshot_view(snapshot))


def all_snapshots() -> list[Snapshot]:
    """All submissions of this folder; says which ones cannot be read."""
    from wandb_submit import records
    from wandb_submit.submission import Submission

    found = []
    for paths in records.all_submissions():
        try:
            found.append(Submission(paths))
        except WandbSubmitError as error:  # one that cannot be read hides none of the others
            click.echo(f"submission {paths.id}: {error}", err=True)
    return Submission.status_of_all(found)
