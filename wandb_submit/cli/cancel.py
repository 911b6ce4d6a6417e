"""`wandb-submit cancel`: end a submission's agents."""

from __future__ import annotations

from collections.abc import Iterator

import click

from wandb_submit.cli._options import submission_argument
from wandb_submit.cli.status import all_snapshots
from wandb_submit.errors import ConfigError
from wandb_submit.wording import counted


@click.command("cancel", short_help="End a submission's agents and their runs.")
@submission_argument
def command(submission_id: str | None) -> None:
    """End the agents of a submission.

    Their runs are asked to end first, and killed after a grace. The sweep itself stays as it is. Unlike other commands
    it takes no submission for granted: without ID it lists those that run.
    """
    from wandb_submit.submission import Submission

    if submission_id is None:
        raise ConfigError("\n".join(_those_that_run()))
    submission = Submission.attach(submission_id)
    before = submission.status()
    if before.is_over:
        click.echo(f"submission {submission.id} has ended already")
        return
    submission.cancel()
    click.echo(f"submission {submission.id} is asked to end; `wandb-submit status {submission.id}` shows how far it is")


def _those_that_run() -> Iterator[str]:
    """What to say to somebody who names no submission."""
    live = [snapshot for snapshot in all_snapshots() if not snapshot.is_over]
    yield "which submission? `wandb-submit cancel ID` ends one" + ("" if live else "; none of this folder's runs now")
    for snapshot in live:
        record = snapshot.record
        where = f"{counted(len(record.jobs), 'task')} on {record.executor}"
        yield f"  {record.id}: sweep {record.sweep.path}, {where}, {snapshot.progress}"
