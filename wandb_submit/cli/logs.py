"""`wandb-submit logs`: what runs and agents printed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click


@click.command("logs", short_help="Show what runs and agents printed.")
@click.argument("submission_id", metavar="[ID]", required=False)
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--task", type=int, metavar="T", help="Print the log of array task T itself: its agent's.")
def command(submission_id: str | None, run_id: str | None, task: int | None) -> None:
    """List the runs of a submission (default: the newest) with their logs, or print the log of one.

    ID and RUN may be cut short as long as they are unambiguous.
    """
    from wandb_submit.errors import NotFoundError
    from wandb_submit.submission import Submission

    submission = Submission.attach(submission_id)
    if task is not None:
        for path in submission.task_logs(task):
            _print_file(path, missing_ok=True)
    elif run_id is not None:
        _print_file(submission.run_log(run_id))
    else:
        from wandb_submit.cli._render import runs_view, show

        submission.status()
        if submission.record.agent == "wandb":
            what = f"what they print is in `wandb-submit logs {submission.id} --task T`"
            raise NotFoundError(f"runs are not followed with --agent wandb: {what}")
        runs = submission.runs()
        if not runs:
            raise NotFoundError(f"submission {submission.id} has started no run yet")
        show(runs_view(runs, submission.lost_runs(), submission.id))


def _print_file(path: Path, *, missing_ok: bool = False) -> None:
    from wandb_submit.errors import NotFoundError

    try:
        with path.open("rb") as file:
            sys.stdout.flush()
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()
    except FileNotFoundError as error:
        if not missing_ok:
            raise NotFoundError(f"the log {path} is not there (yet)") from error
