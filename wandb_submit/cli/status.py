"""`wandb-submit status`: what runs where."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from wandb_submit.cli._options import find_submission, json_option, submission_argument
from wandb_submit.errors import ConfigError, WandbSubmitError

if TYPE_CHECKING:
    from wandb_submit.submission.snapshot import Snapshot


@click.command("status")
@submission_argument
@click.option("--all", "show_all", is_flag=True, help="List all submissions of this folder, the newest first.")
@json_option
def command(submission_id: str | None, show_all: bool, as_json: bool) -> None:
    """Show the agents of a submission (default: the newest), their devices and runs.

    ID is the submission's id, the beginning of it, or another name that is printed of it, such as a run's.
    """
    from wandb_submit.cli._overview import overview
    from wandb_submit.cli._render import show, snapshot_json, snapshot_view

    if show_all and submission_id is not None:
        raise ConfigError(f"--all shows every submission: leave {submission_id} out, or --all")
    snapshots = all_snapshots() if show_all else [find_submission(submission_id).status()]
    if as_json:
        shown = [snapshot_json(snapshot) for snapshot in snapshots]
        click.echo(json.dumps(shown if show_all else shown[0]))
    elif show_all:
        show(overview(snapshots[::-1]))
    else:
        show(snapshot_view(snapshots[0]))


def all_snapshots() -> list[Snapshot]:
    """All submissions of this folder, the newest last; says which ones cannot be read."""
    from wandb_submit.store import record
    from wandb_submit.submission.submission import Submission

    found = []
    for paths in record.all_submissions():
        try:
            found.append(Submission(paths))
        except WandbSubmitError as error:  # one that cannot be read hides none of the others
            click.echo(f"submission {paths.id}: {error}", err=True)
    return Submission.status_of_all(found)
