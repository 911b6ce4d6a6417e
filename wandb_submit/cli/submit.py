"""`wandb-submit SWEEP`: start agents for a sweep."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from wandb_submit.cli import _complete
from wandb_submit.cli._options import given, grouped, submission_options, which_gpus
from wandb_submit.cli._words import no_command, refuse
from wandb_submit.errors import NotFoundError, NotLoggedInError
from wandb_submit.options.table import Group
from wandb_submit.text import counted

if TYPE_CHECKING:
    from wandb_submit.submission.prepare import Prepared
    from wandb_submit.submission.submission import Submission
    from wandb_submit.wandb_api.sweeps import Sweep


@click.command("submit")
@click.argument("sweep", shell_complete=_complete.files)
@submission_options
@grouped("--offline", is_flag=True, group=Group.RUNS, first=True, help="Run without W&B, on this folder's own server.")
@grouped("--clip", is_flag=True, group=Group.SLURM, help="Submit as many tasks as the cluster takes now, if not all.")
@grouped("--gpus", hidden=True, expose_value=False, callback=which_gpus, group=Group.DEVICES, help="Refused.")
@grouped(
    "--dry-run", is_flag=True, group=Group.OUTPUT, first=True, help="Print exactly what would be submitted; do nothing."
)
@grouped("--wait", is_flag=True, group=Group.OUTPUT, help="Wait for the end. Default: for local agents alone.")
@grouped("--detach", is_flag=True, group=Group.OUTPUT, help="Return at once. Default: for Slurm's agents.")
@grouped("--json", "as_json", is_flag=True, group=Group.OUTPUT, help="Print JSON for scripts.")
def command(
    sweep: str,
    offline: bool,
    clip: bool,
    dry_run: bool,
    wait: bool,
    detach: bool,
    as_json: bool,
    **options: object,
) -> None:
    """Start agents for a sweep.

    SWEEP is an id, project/id, entity/project/id, a sweep's URL, or a sweep YAML file to create it from.
    """
    if wait and detach:
        raise click.UsageError("--wait: --detach says the opposite. Give one of them.")
    from wandb_submit.submission.prepare import prepare
    from wandb_submit.submission.submit import send

    refuse(sweep)
    with _server_in_view(offline=offline), _word_in_view(sweep):
        prepared = prepare(sweep, given(options), offline=offline, dry_run=dry_run, clip=clip)
    for note in prepared.notes:
        click.echo(f"note: {note}", err=True)
    _warn(prepared.warnings)
    if dry_run:
        click.echo(json.dumps(_plan_json(prepared)) if as_json else prepared.plan.render())
        return
    # Imported before the jobs exist: from then on Ctrl-C is the wait's to handle, with nothing slow in between.
    from wandb_submit.cli.wait import wait_and_report

    created = "created sweep" if prepared.sweep is None else "sweep"

    def tell(sweep: Sweep) -> None:
        click.echo(f"{created} {sweep.ref.path} at {sweep.ref.base_url}", err=True)
        _warn(sweep.warnings)

    with _server_in_view(offline=offline):
        submission = send(prepared, tell)
    _announce(prepared, submission)
    if wait or (prepared.spec.executor == "local" and not detach):
        # Slurm's jobs live on without us, as people expect of sbatch; agents in the foreground do not.
        wait_and_report(submission, as_json=as_json, ctrl_c_cancels=prepared.spec.executor == "local")
    elif as_json:
        record = submission.record
        click.echo(json.dumps({"id": record.id, "sweep": record.sweep.path, "jobs": list(record.jobs)}))
    else:
        click.echo(f"what runs where: wandb-submit status {submission.id}")


def _plan_json(prepared: Prepared) -> dict[str, Any]:
    """What would be submitted, for scripts."""
    spec = prepared.spec
    return {
        "dry_run": True,
        "sweep": prepared.sweep.ref.path if prepared.sweep else None,
        "executor": spec.executor,
        "array": str(spec.array),
        "agents": spec.agents,
        "resources": dict(prepared.plan.resources()),
        **prepared.plan.details(),
        "notes": list(prepared.notes),
        "warnings": list(prepared.warnings),
    }


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


@contextlib.contextmanager
def _word_in_view(sweep: str) -> Iterator[None]:
    """Tells what else was meant by a word that could have been a sweep's id, and is none."""
    try:
        yield
    except (NotLoggedInError, NotFoundError) as error:
        if not sweep.isalpha() or os.path.isfile(sweep):  # noqa: PTH113 Path.is_file raises on a long text
            raise
        is_folder = os.path.isdir(sweep)  # noqa: PTH112 likewise
        here = f"{sweep} is a folder here, which holds no sweep by itself" if is_folder else no_command(sweep)
        raise type(error)(f"{error}; {here}") from error


@contextlib.contextmanager
def _server_in_view(*, offline: bool) -> Iterator[None]:
    """Tells of an offline server that was started for what has failed, and stays for the sweep that was created."""
    if not offline:
        yield
        return
    from wandb_submit.server.control import lifecycle
    from wandb_submit.store.paths import server_dir

    ran = lifecycle.status(server_dir()) is not None
    try:
        yield
    except BaseException:
        if not ran and lifecycle.status(server_dir()) is not None:
            click.echo("note: the offline server was started and runs on; `wandb-submit server stop` ends it", err=True)
        raise


def _announce(prepared: Prepared, submission: Submission) -> None:
    record = submission.record
    asked, spec = prepared.spec.array.count, prepared.spec
    if len(record.jobs) < asked:
        click.echo(
            f"note: --clip: {len(record.jobs)} of the {counted(asked, 'array task')}, as many as fit now", err=True
        )
    agents = counted(len(record.jobs) * spec.agents_per_task, "agent")
    jobs = "job" if len(record.jobs) == 1 else "jobs"
    click.echo(f"submission {record.id}: {agents}, {record.executor} {jobs} {_arrays(record.jobs)}", err=True)


def _arrays(jobs: Sequence[str]) -> str:
    """The tasks of each array, as squeue writes them: `7_[0-3],8_0`."""
    last = {job.rpartition("_")[0]: job.rpartition("_")[2] for job in jobs}
    return ",".join(f"{array}_[0-{task}]" if task != "0" else f"{array}_0" for array, task in last.items())
