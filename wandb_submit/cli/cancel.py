"""`wandb-submit cancel`: end a submission's agents."""

from __future__ import annotations

import click


@click.command("cancel", short_help="End a submission's agents and their runs.")
@click.argument("submission_id", metavar="ID")
def command(submission_id: str) -> None:
    """End the agents of a submission.

    Their runs are asked to end first, and killed after a grace. The sweep itself stays as it is.
    """
    from wandb_submit.submission import Submission

    submission = Submission.attach(submission_id)
    before = submission.status()
    if before.is_over:
        click.echo(f"submission {submission.id} has ended already")
        return
    submission.cancel()
    click.echo(f"submission {submission.id} is asked to end; `wandb-submit status {submission.id}` shows how far it is")
