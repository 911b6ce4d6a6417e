"""`wandb-submit wait`: follow a submission to its end."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from wandb_submit.cli._options import find_submission, json_option, submission_argument
from wandb_submit.errors import WandbSubmitError
from wandb_submit.text import uninitialized_words

if TYPE_CHECKING:
    from wandb_submit.store.journal import RunView
    from wandb_submit.submission.snapshot import Snapshot
    from wandb_submit.submission.submission import Submission
    from wandb_submit.wandb_api.results import Results


# What Ctrl-C will do, said before: whether it ends the agents.
_CTRL_C = {
    True: "Ctrl-C asks the runs to end and stops the agents, a second Ctrl-C kills them; "
    "to leave them at work, close the terminal, or submit with --detach",
    False: "Ctrl-C ends this view only; the agents go on",
}


@click.command("wait")
@submission_argument
@json_option
def command(submission_id: str | None, as_json: bool) -> None:
    """Follow a submission (default: the newest) until all its agents have ended.

    Ctrl-C ends the view; the agents go on. The exit status is 0 if they and their runs ended as they should, 1 if not.
    """
    wait_and_report(find_submission(submission_id), as_json=as_json, ctrl_c_cancels=False)


def wait_and_report(submission: Submission, *, as_json: bool, ctrl_c_cancels: bool) -> None:
    """Shows a submission until it ends, then how the sweep came out; exits with 1 if an agent or a run failed.

    Args:
        submission: what to follow.
        as_json: whether to print JSON at the end.
        ctrl_c_cancels: whether Ctrl-C ends the agents, or the view alone.
    """
    snapshot = _follow(submission, ctrl_c_cancels=ctrl_c_cancels)
    from wandb_submit.cli._failures import tell
    from wandb_submit.cli._render import results_text, snapshot_json
    from wandb_submit.store.paths import server_command

    results: Results | None = None
    problem: str | None = None
    try:
        results = submission.results()
    except WandbSubmitError as error:
        problem = str(error)
    uninitialized = submission.uninitialized(results) if results else []
    if as_json:
        came_out = {"results": _results_json(results, uninitialized), "results_error": problem}
        click.echo(json.dumps({**snapshot_json(snapshot), **came_out}))
    else:
        click.echo(results_text(results) if results else f"the sweep's results cannot be read: {problem}")
        click.echo(f"logs: {submission.paths.folder / 'runs'}")
        server_dir = submission.record.endpoint.server_dir
        click.echo(f"data: {server_dir}" if server_dir else f"data: {submission.record.sweep.base_url}")
        if problem is not None:
            click.echo(f"when the server answers, `wandb-submit wait {submission.id}` shows the results", err=True)
        elif server_dir:
            click.echo(f"the offline server runs on; `{server_command('stop', server_dir)}` ends it", err=True)
    if uninitialized:
        click.echo(uninitialized_words(len(uninitialized)), err=True)
    tell(submission, snapshot)
    if not snapshot.is_well or snapshot.runs_failed:
        sys.exit(1)


def _follow(submission: Submission, *, ctrl_c_cancels: bool) -> Snapshot:
    """Shows a live table in a terminal, lines elsewhere."""
    asked = 0
    if sys.stdin.isatty() or sys.stderr.isatty():
        click.echo(_CTRL_C[ctrl_c_cancels], err=True)
    while True:
        try:
            return _show_table(submission) if sys.stderr.isatty() else _print_lines(submission)
        except KeyboardInterrupt:
            if not ctrl_c_cancels:
                click.echo(f"\nthe agents go on; `wandb-submit cancel {submission.id}` ends them", err=True)
                sys.exit(130)
            asked += 1
            words = "asking the runs to end; Ctrl-C again kills them" if asked == 1 else "killing the runs"
            click.echo(f"\n{words}", err=True)
            submission.cancel()


def _show_table(submission: Submission) -> Snapshot:
    from rich.console import Console
    from rich.live import Live

    from wandb_submit.cli._render import Screenful, event_line, snapshot_view

    with Live(console=Console(stderr=True), auto_refresh=False, transient=False) as live:
        for snapshot, news in submission.follow():
            for agent, stamped in news:
                if line := event_line(agent, stamped):
                    live.console.print(line, markup=False, highlight=False)
            if snapshot.is_over:
                live.update(snapshot_view(snapshot))  # the whole of it stays on the screen
                return snapshot
            live.update(Screenful(snapshot), refresh=True)
    raise AssertionError("follow ends only once every task has ended")


def _print_lines(submission: Submission) -> Snapshot:
    from wandb_submit.cli._render import event_line

    for snapshot, news in submission.follow():
        for agent, stamped in news:
            if line := event_line(agent, stamped):
                click.echo(line, err=True)
        if snapshot.is_over:
            return snapshot
    raise AssertionError("follow ends only once every task has ended")


def _results_json(results: Results | None, uninitialized: Sequence[RunView]) -> dict[str, Any] | None:
    if results is None:
        return None
    best = results.best
    return {
        "states": dict(results.states),
        "metric": results.metric,
        "goal": results.goal,
        "uninitialized": [run.id for run in uninitialized],
        "best": None
        if best is None
        # `run` is the older name of `id`, which scripts may read.
        else {"id": best.id, "run": best.id, "name": best.name, "metric": best.metric, "config": dict(best.config)},
    }
