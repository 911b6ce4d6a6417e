"""`wandb-submit server`: the offline sweep server of a folder."""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wandb_submit.cli._options import json_option, seconds
from wandb_submit.errors import NotFoundError, UnavailableError
from wandb_submit.text import counted

if TYPE_CHECKING:
    from wandb_submit.server.control.lifecycle import ServerInfo

_data_option = click.option(
    "--data", type=click.Path(path_type=Path), help="The server's data folder. Default: .wandb-submit/server."
)


_seconds = functools.partial(click.option, callback=seconds, metavar="S")


@click.group("server")
def command() -> None:
    """Run sweeps where there is no W&B: a small server that the unmodified `wandb` client talks to.

    `eval "$(wandb-submit server env)"` points a shell at it.
    """


@command.command()
@_data_option
@click.option("--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0 is everywhere. Default: 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: last time's, or a free one.")
@click.option("--seed", type=int, help="What searches start from. Default: the folder's own.")
@_seconds("--crash-after", help="A run that is silent for so long has crashed. Default: 300.")
@_seconds("--gone-grace", help="The same for a run that its agent no longer has. Default: 15.")
@_seconds("--stop-grace", help="How long a run may take to stop before its agent ends it. Default: 32.")
def start(
    data: Path | None,
    host: str | None,
    port: int,
    seed: int | None,
    crash_after: float | None,
    gone_grace: float | None,
    stop_grace: float | None,
) -> None:
    """Start the server, unless it runs already.

    Its folder remembers all of these options: one that is not given stays as it was last time.
    """
    from wandb_submit.server.control import lifecycle
    from wandb_submit.store.paths import server_dir

    running = lifecycle.start(
        data or server_dir(),
        host=host,
        port=port,
        seed=seed,
        crash_after_s=crash_after,
        gone_grace_s=gone_grace,
        stop_grace_s=stop_grace,
    )
    lifecycle.keep(running.data_dir)
    click.echo(_where(running))
    if running.note:
        click.echo(f"note: {running.note}", err=True)
    if trouble := lifecycle.storage_trouble(running):
        click.echo(f"note: it can store nothing now: {trouble}", err=True)
    _introduce(running, f" --data {shlex.quote(str(data))}" if data else "")


def _introduce(running: ServerInfo, option: str) -> None:
    """Tells how to use the server; with its key, if others can reach it and nobody has seen the key yet."""
    from wandb_submit.server.control.addresses import is_loopback
    from wandb_submit.server.control.key import is_first_showing

    if is_loopback(running.host) or not is_first_showing(running.data_dir):
        click.echo(f'point a shell at it with: eval "$(wandb-submit server env{option})"', err=True)
        return
    _print_environment(running)
    click.echo(
        f"other machines reach this server, on {running.host}: only the key above lets a client in. "
        f"The key is shown this once; `wandb-submit server env{option}` prints it again for you alone. What travels is "
        "not encrypted: use it in networks that you trust.",
        err=True,
    )


@command.command(short_help="Stop the server; its data stays.")
@_data_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask, in a terminal, while agents are at work.")
def stop(data: Path | None, yes: bool) -> None:
    """Stop the server; its data stays, and the next start goes on with it.

    While agents are at work, it asks first where there is a terminal, and says so elsewhere. They and their runs go on
    without the server, and bring it what it has missed once it is started again.
    """
    from wandb_submit.server.control import lifecycle
    from wandb_submit.store.paths import server_command, server_dir

    folder = data or server_dir()
    if works := _what_works(folder):
        start = server_command("start", folder)
        click.echo(f"in use: {works} not ended; what is at work goes on, and waits for `{start}`", err=True)
        if not yes and sys.stdin.isatty() and not click.confirm("Stop the server?", err=True):
            raise click.exceptions.Exit(1)
    stopped = lifecycle.stop(folder)
    click.echo(f"the server of {folder} {'is stopped' if stopped else 'was not running'}")


def _what_works(folder: Path) -> str:
    """How many agents and runs of a folder's server have not ended; empty if none, or if it does not run or answer."""
    from wandb_submit.server.control import lifecycle

    running = lifecycle.status(folder)
    try:
        known = lifecycle.facts(running) if running else {}
    except UnavailableError:  # one that hangs is to be stopped all the more
        return ""
    runs, agents = known.get("runs"), known.get("agents")
    going = [
        counted(number, noun)
        for number, noun in ((agents, "agent"), (isinstance(runs, dict) and runs.get("running"), "run"))
        if isinstance(number, int) and number
    ]
    return " and ".join(going)


@command.command()
@_data_option
@json_option
def status(data: Path | None, as_json: bool) -> None:
    """Tell whether the server runs, where, and what it holds. The exit status is 0 if it does, 3 if not."""
    from wandb_submit.server.control import lifecycle
    from wandb_submit.store.paths import server_dir

    folder = data or server_dir()
    running = lifecycle.status(folder)
    known = lifecycle.facts(running) if running else {}
    trouble = lifecycle.storage_trouble(running) if running else None
    if as_json:
        url, pid, machine = (running.url, running.pid, running.machine) if running else (None, None, None)
        place = {"running": running is not None, "url": url, "pid": pid, "machine": machine, "data": str(folder)}
        click.echo(json.dumps({**place, **known, "trouble": trouble}))
    elif running:
        click.echo(_where(running))
        click.echo(_in_words(known))
        if trouble:
            click.echo(f"it can store nothing now: {trouble}")
    if running is None:
        raise _not_running(folder)


@command.command(short_help="Print shell code that points `wandb` at the server.")
@_data_option
def env(data: Path | None) -> None:
    """Print shell code that points `wandb` at the server: eval "$(wandb-submit server env)"."""
    from wandb_submit.server.control import lifecycle
    from wandb_submit.store.paths import server_dir

    folder = data or server_dir()
    running = lifecycle.status(folder)
    if running is None:
        raise _not_running(folder)
    _print_environment(running)


@command.command("log")
@_data_option
@click.option("-n", "--lines", type=click.IntRange(min=0), default=20, help="How many of its last lines. Default: 20.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
def show_log(data: Path | None, lines: int, follow: bool) -> None:
    """Print the end of the server's log."""
    from wandb_submit.server.control import log
    from wandb_submit.store.paths import server_dir

    folder = data or server_dir()
    path = folder / log.FILE
    if not path.exists():
        raise NotFoundError(f"no server of {folder} has written a log yet: {path} is not there")
    for piece in log.tail(path, lines, follow=follow):
        click.echo(piece, nl=False)


@command.command(short_help="Copy the server's data into a new folder, also while it runs.")
@_data_option
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
def backup(data: Path | None, destination: Path) -> None:
    """Copy everything that the server keeps into the new folder DEST, also while it runs.

    The copy is as private as the original: it holds the key, too. `wandb-submit server start --data DEST` goes on
    from it.
    """
    from wandb_submit.server.control.backup import back_up
    from wandb_submit.store.paths import server_dir

    size = back_up(data or server_dir(), destination)
    click.echo(f"{destination} ({size / 1e6:.1f} MB)")


def _where(running: ServerInfo) -> str:
    return f"{running.url} (process {running.pid}, data in {running.data_dir})"


def _in_words(known: Mapping[str, Any]) -> str:
    """What a server tells about itself, for people."""
    runs: Mapping[str, int] = known.get("runs", {})
    states = f" ({', '.join(f'{number} {state}' for state, number in sorted(runs.items()))})" if runs else ""
    up = dt.timedelta(seconds=int(known.get("uptime_s", 0)))
    return (
        f"version {known.get('version')}, up {up}; {counted(known.get('sweeps', 0), 'sweep')}, "
        f"{counted(sum(runs.values()), 'run')}{states}, {counted(known.get('agents', 0), 'agent')} at work"
    )


def _print_environment(running: ServerInfo) -> None:
    from wandb_submit.wandb_api.credentials import Login, patience, trial_environment

    address = trial_environment(Login(running.url, running.api_key), offline=True)
    for name, value in {**address, **patience(os.environ, offline=True)}.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _not_running(folder: Path) -> NotFoundError:
    from wandb_submit.store.paths import server_command
    from wandb_submit.wandb_api.credentials import why_it_ended

    remedy = f"start it with `{server_command('start', folder)}`"
    return NotFoundError(f"no server runs on {folder}: {remedy}{why_it_ended(folder)}")
