"""`wandb-submit cancel`: end a submission's agents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from wandb_submit.cli._options import submission_argument
from wandb_submit.cli.status import all_snapshots
from wandb_submit.errors import ConfigError
from wandb_submit.text import counted

if TYPE_CHECKING:
    from wandb_submit.submission.submission import Submission


@click.command("cancel")
@submission_argument
def command(submission_id: str | None) -> None:
    """End the agents of a submission, or of one of its array tasks.

    Their runs are asked to end first, and killed after a grace. The sweep itself stays as it is. ID is a submission's
    or, as `status` and Slurm print it, a task's: hp7z3a_1. Without ID, the submissions that run are listed.
    """
    from wandb_submit.submission import lookup
    from wandb_submit.submission.submission import Submission

    if submission_id is None:
        raise ConfigError("\n".join(_those_that_run()))
    found = lookup.find(submission_id)
    submission = Submission(found.paths)
    if found.run is not None:
        raise _one_run(found.run, submission)
    before = submission.status()
    asked = [task for task in before.tasks if not found.tasks or task.index in found.tasks]
    what = f"{found.part} of {submission.id}" if found.tasks else f"submission {submission.id}"
    are, have = ("are", "have") if len(found.tasks) > 1 else ("is", "has")
    if all(task.status.state.is_terminal for task in asked):
        click.echo(f"{what} {have} ended already")
        return
    submission.cancel(found.tasks)
    click.echo(f"{what} {are} asked to end; `wandb-submit status {submission.id}` shows how far it is")


def _one_run(run: str, submission: Submission) -> ConfigError:
    sweep = submission.record.sweep
    return ConfigError(
        f"{run} is one run of the submission {submission.id}: `wandb-submit cancel {submission.id}` ends all of them. "
        f"To stop this one, use its page, or `wandb.Api().run('{sweep.entity}/{sweep.project}/{run}').stop()`"
    )


def _those_that_run() -> Iterator[str]:
    """What to say to somebody who names no submission."""
    live = [snapshot for snapshot in all_snapshots() if not snapshot.is_over]
    yield "which submission? `wandb-submit cancel ID` ends one" + ("" if live else "; none of this folder's runs now")
    for snapshot in live:
        record = snapshot.record
        where = f"{counted(len(record.jobs), 'task')} on {record.executor}"
        yield f"  {record.id}: sweep {record.sweep.path}, {where}, {snapshot.progress}"
