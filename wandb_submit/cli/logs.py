"""`wandb-submit logs`: what runs and agents printed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wandb_submit.cli import _complete
from wandb_submit.cli._options import submission_argument

if TYPE_CHECKING:
    from wandb_submit.submission.lookup import Found
    from wandb_submit.submission.submission import Submission


@click.command("logs")
@submission_argument
@click.argument("run_id", metavar="[RUN]", required=False, shell_complete=_complete.runs)
@click.option("--task", metavar="T", help="Print the log of array task T itself: its agent's.")
def command(submission_id: str | None, run_id: str | None, task: str | None) -> None:
    """List the runs of a submission (default: the newest) with their logs, or print the log of one.

    ID and RUN may be cut short as long as they are unambiguous. RUN suffices where a submission of this folder has such
    a run. A task's name, hp7z3a_1, and a log's path will do, too.
    """
    from wandb_submit.submission import lookup
    from wandb_submit.submission.submission import Submission

    found = lookup.find(submission_id)
    submission = Submission(found.paths)
    if task is not None:
        found = _named_task(submission, task)
    elif run_id is not None:
        found = lookup.part(submission.paths, run_id) or lookup.Found(paths=submission.paths, run=run_id)
    if found.run is not None:
        _print_file(submission.run_log(found.run))
    elif found.tasks:
        for index in found.tasks:
            logs = submission.task_logs(index)
            for path in [log for log in logs if log.exists()] or logs[:1]:
                _print_file(path)
    else:
        _list_runs(submission)


def _named_task(submission: Submission, name: str) -> Found:
    """The task of a number or a name; its number is the submission's to judge."""
    from wandb_submit.errors import NotFoundError
    from wandb_submit.submission import lookup

    if name.isdecimal():
        return lookup.Found(paths=submission.paths, tasks=(int(name),))
    found = lookup.part(submission.paths, name)
    if found is None or not found.tasks:
        raise NotFoundError(f"submission {submission.id} has no array task {name!r}: they are numbered from 0")
    return found


def _list_runs(submission: Submission) -> None:
    from wandb_submit.cli._render import runs_view, show
    from wandb_submit.errors import NotFoundError

    submission.status()
    if submission.record.agent == "wandb":
        what = f"what they print is in `wandb-submit logs {submission.id} --task T`"
        raise NotFoundError(f"runs are not followed with --agent wandb: {what}")
    runs = submission.runs()
    if not runs:
        raise NotFoundError(f"submission {submission.id} has started no run yet")
    show(runs_view(runs, submission.lost_runs(), submission.id))


def _print_file(path: Path) -> None:
    from wandb_submit.errors import NotFoundError

    try:
        with path.open("rb") as file:
            sys.stdout.flush()
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()
    except FileNotFoundError as error:
        raise NotFoundError(f"the log {path} is not there (yet)") from error
