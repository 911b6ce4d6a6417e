"""`wandb-submit server`: the offline sweep server of a folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from wandb_submit.cli._options import json_option
from wandb_submit.errors import NotFoundError

_data_option = click.option(
    "--data", type=click.Path(path_type=Path), help="The server's data folder. Default: .wandb-submit/server."
)


@click.group("server", short_help="The offline sweep server: start, stop, status, env.")
def command() -> None:
    """Run sweeps where there is no W&B: a small server that the unmodified `wandb` client talks to.

    `eval "$(wandb-submit server env)"` points a shell at it.
    """


@command.command()
@_data_option
@click.option("--port", type=int, default=0, help="The port to listen on. Default: last time's, or a free one.")
def start(data: Path | None, port: int) -> None:
    """Start the server, unless it runs already."""
    from wandb_submit.paths import server_dir
    from wandb_submit.server import lifecycle

    running = lifecycle.start(data or server_dir(), port=port)
    click.echo(f"{running.url} (process {running.pid}, data in {running.data_dir})")
    click.echo('point a shell at it with: eval "$(wandb-submit server env)"', err=True)


@command.command()
@_data_option
def stop(data: Path | None) -> None:
    """Stop the server; its data stays, and the next start goes on with it."""
    from wandb_submit.paths import server_dir
    from wandb_submit.server import lifecycle

    folder = data or server_dir()
    stopped = lifecycle.stop(folder)
    click.echo(f"the server of {folder} {'is stopped' if stopped else 'was not running'}")


@command.command()
@_data_option
@json_option
def status(data: Path | None, as_json: bool) -> None:
    """Tell whether the server runs, and where. The exit status is 0 if it does, 3 if not."""
    from wandb_submit.paths import server_dir
    from wandb_submit.server import lifecycle

    folder = data or server_dir()
    running = lifecycle.status(folder)
    if as_json:
        url, pid = (running.url, running.pid) if running else (None, None)
        click.echo(json.dumps({"running": running is not None, "url": url, "pid": pid, "data": str(folder)}))
    elif running:
        click.echo(f"{running.url} (process {running.pid}, data in {running.data_dir})")
    if running is None:
        raise _not_running(folder)


@command.command()
@_data_option
def env(data: Path | None) -> None:
    """Print shell code that points `wandb` at the server: eval "$(wandb-submit server env)"."""
    from wandb_submit.credentials import Login, trial_environment
    from wandb_submit.paths import server_dir
    from wandb_submit.server import lifecycle

    folder = data or server_dir()
    running = lifecycle.status(folder)
    if running is None:
        raise _not_running(folder)
    for name, value in trial_environment(Login(running.url, running.api_key), offline=True).items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _not_running(folder: Path) -> NotFoundError:
    return NotFoundError(f"no server runs on {folder}: start it with `wandb-submit server start`")
