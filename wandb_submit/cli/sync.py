"""`wandb-submit sync`: bring an offline sweep to W&B."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wandb_submit.cli._options import json_option
from wandb_submit.errors import ConfigError
from wandb_submit.text import counted

if TYPE_CHECKING:
    from wandb_submit.server.export import OfflineSweep, Source
    from wandb_submit.sync.connection import Connection
    from wandb_submit.sync.place import Place
    from wandb_submit.sync.progress import Progress
    from wandb_submit.sync.sync import Failure, Outcome, Plan
    from wandb_submit.wandb_api.credentials import Login

# A server that does not even greet is told of soon; later, patience saves what has been begun.
_GREETING_S = 20.0


@click.command("sync")
@click.argument("sweep_id", metavar="SWEEP")
@click.option("--data", type=click.Path(path_type=Path), help="The data folder. Default: .wandb-submit/server.")
@click.option("--to", "url", metavar="URL", help="The server to send it to. Default: the one `wandb` talks to.")
@click.option("--entity", metavar="NAME", help="The entity there. Default: your own.")
@click.option("--project", metavar="NAME", help="The project there. Default: one of the same name as here.")
@click.option("--jobs", type=click.IntRange(1, 64), default=8, help="Runs sent at a time. Default: 8.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=300.0,
    metavar="S",
    help="Seconds to wait for a server that does not answer. Default: 300.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and do nothing.")
@json_option
def command(
    sweep_id: str,
    data: Path | None,
    url: str | None,
    entity: str | None,
    project: str | None,
    jobs: int,
    patience: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring a sweep of the offline server, with its runs, to W&B or to another server.

    SWEEP is its id, project/id or entity/project/id here. Runs that have not ended are left for a later time.
    Repeating the command sends what is new, and goes on where an earlier one was interrupted. The key is found as
    `wandb` finds it: run `wandb login` first.
    """
    from wandb_submit.server.export import Source
    from wandb_submit.store.paths import server_dir
    from wandb_submit.sync.connection import Connection
    from wandb_submit.sync.journal import look_at_journal, open_journal
    from wandb_submit.sync.place import Place
    from wandb_submit.sync.progress import Progress
    from wandb_submit.sync.project import Project, own_entity
    from wandb_submit.sync.sync import carry_out, make_plan
    from wandb_submit.wandb_api import names

    name = names.parse(sweep_id)
    if not isinstance(name, names.SweepName):
        raise ConfigError(f"{sweep_id} is a file: name a sweep of the offline server by its id")
    source = Source(data or server_dir())
    sweep = source.sweep(name.id, entity=name.entity, project=name.project)
    login = _login(url, source)
    stop, progress = threading.Event(), Progress()
    connection = Connection(login, patience_s=min(patience, _GREETING_S), stop=stop)
    try:
        own = own_entity(connection)
        connection.patience_s = patience
        place = Place(
            base_url=login.base_url,
            entity=_entity(entity or os.environ.get("WANDB_ENTITY") or own, login),
            project=project or sweep.project,
        )
        if dry_run:
            with look_at_journal(source.data_dir, sweep.id, place) as journal:
                _show_plan(make_plan(source, journal, sweep), place, as_json=as_json)
            return
        with open_journal(source.data_dir, sweep.id, place) as journal:
            plan = make_plan(source, journal, sweep)
            with _shown(plan, progress, connection):
                outcome = carry_out(
                    plan,
                    source=source,
                    journal=journal,
                    project=Project(connection, place),
                    progress=progress,
                    jobs=jobs,
                    stop=stop,
                )
    except KeyboardInterrupt:
        click.echo("\nwhat has arrived stays there; the same command goes on from here", err=True)
        sys.exit(130)
    finally:
        connection.close()
    _show_outcome(plan, outcome, progress, place, as_json=as_json)
    if outcome.failures:
        sys.exit(1)


def _entity(name: str | None, login: Login) -> str:
    if not name:
        raise ConfigError(f"{login.base_url} tells no default entity: name one with --entity")
    return name


def _login(url: str | None, source: Source) -> Login:
    """The server that the sweep goes to, and the key for it."""
    from wandb_submit.server.control import lifecycle
    from wandb_submit.spec import Endpoint
    from wandb_submit.sync.place import api_address
    from wandb_submit.wandb_api import sweeps
    from wandb_submit.wandb_api.credentials import find_login

    named = url or os.environ.get("WANDB_BASE_URL")
    endpoint = Endpoint(base_url=api_address(named)) if named else sweeps.default_endpoint()
    running = lifecycle.status(source.data_dir)
    login = find_login(endpoint)
    if login.api_key == source.api_key() or (running is not None and running.url == login.base_url):
        raise ConfigError(
            f"this shell is pointed at the very server that the sweep is on ({source.data_dir}): "
            "unset WANDB_BASE_URL and WANDB_API_KEY, or use another shell"
        )
    return login


@contextmanager
def _shown(plan: Plan, progress: Progress, connection: Connection) -> Iterator[None]:
    """Shows a bar in a terminal while the sync is at work."""
    if not sys.stderr.isatty() or not plan.send:
        yield
        return
    from rich.console import Console, Group, RenderableType
    from rich.filesize import decimal
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    class View:
        def __rich__(self) -> RenderableType:
            line = Table.grid(padding=(0, 1))
            words = f"runs {progress.runs} of {len(plan.send)}"
            files = f"files {progress.files} of {plan.files}, {decimal(progress.bytes_sent)}"
            line.add_row(words, ProgressBar(total=len(plan.send), completed=progress.runs, width=40), files)
            trouble = Text(f"trying again: {connection.trouble}", style="yellow")
            return Group(line, trouble) if connection.trouble else line

    with Live(View(), console=Console(stderr=True), refresh_per_second=4):
        yield


def _show_plan(plan: Plan, place: Place, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**_plan_json(plan, place), "dry_run": True}))
        return
    from rich.filesize import decimal

    into = f"sweep {plan.sweep_there}" if plan.sweep_there else "a new sweep"
    size = f"{counted(plan.files, 'file')}, {decimal(plan.bytes)}"
    click.echo(
        f"would send {len(plan.send)} of {counted(plan.runs, 'run')} of {plan.sweep.path} ({size}) to {into} in {place}"
    )
    _show_rest(plan)


def _show_outcome(plan: Plan, outcome: Outcome, progress: Progress, place: Place, *, as_json: bool) -> None:
    from rich.filesize import decimal

    from wandb_submit.sync.sync import counts

    sent = counts(plan, outcome.failures)
    url = place.sweep_url(outcome.sweep_id)
    if as_json:
        there = {"id": outcome.sweep_id, "url": url, "state": outcome.state, "created": outcome.created}
        amounts = {"files": progress.files, "lines": progress.lines, "bytes": progress.bytes_sent}
        failures = [{"run": failure.run, "reason": failure.reason} for failure in outcome.failures]
        result = {**_plan_json(plan, place), "sweep": there, "runs": sent, **amounts, "failures": failures}
        click.echo(json.dumps(result))
        return
    click.echo(url)
    amount = f"{counted(progress.files, 'file')}, {counted(progress.lines, 'line')}, {decimal(progress.bytes_sent)}"
    failed = f", {sent['failed']} failed" if sent["failed"] else ""
    click.echo(f"sent {counted(sent['sent'], 'run')} ({amount}){failed}", err=True)
    _show_rest(plan)
    if outcome.failures:
        _show_failures(outcome.failures)


def _show_rest(plan: Plan) -> None:
    if plan.unchanged:
        click.echo(f"there already: {counted(plan.unchanged, 'run')}", err=True)
    if plan.unfinished:
        click.echo(f"not ended yet, so sync again later: {counted(len(plan.unfinished), 'run')}", err=True)
    if plan.artifacts:
        click.echo(
            f"stay here, as they are not uploaded yet: {counted(plan.artifacts, 'artifact')} of its runs", err=True
        )


def _show_failures(failures: tuple[Failure, ...]) -> None:
    from rich.table import Table
    from rich.text import Text

    from wandb_submit.cli._render import show

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True)
    table.add_column("not sent because")
    for failure in failures:
        table.add_row(failure.run, Text(failure.reason))
    show(table, err=True)


def _plan_json(plan: Plan, place: Place) -> dict[str, Any]:
    sweep: OfflineSweep = plan.sweep
    return {
        "from": sweep.path,
        "to": {"base_url": place.base_url, "entity": place.entity, "project": place.project},
        "sweep": {"id": plan.sweep_there},
        "runs": {"send": len(plan.send), "unchanged": plan.unchanged, "unfinished": len(plan.unfinished)},
        "files": plan.files,
        "bytes": plan.bytes,
        "artifacts_left": plan.artifacts,
        "unfinished": list(plan.unfinished),
    }
