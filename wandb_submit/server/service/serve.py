"""Runs one server in the foreground, from its lock to its last goodbye."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import FrameType

import uvicorn

from wandb_submit._version import __version__
from wandb_submit.errors import RefusedError
from wandb_submit.server.artifacts.artifact import forget_abandoned
from wandb_submit.server.artifacts.contents import remove_orphans
from wandb_submit.server.control.addresses import announced
from wandb_submit.server.control.key import api_key, close_to_others
from wandb_submit.server.control.lock import beat, cannot_keep_data, hold, is_held, make_data_dir
from wandb_submit.server.control.log import FILE as LOG
from wandb_submit.server.control.settings import DATABASE, Choices, Settings
from wandb_submit.server.request.connections import Gate, behind, raise_limit
from wandb_submit.server.request.context import Context, ServerFacts
from wandb_submit.server.request.heard import Heard
from wandb_submit.server.request.memory import remember_port, settle
from wandb_submit.server.request.uploads import UPLOADS
from wandb_submit.server.service.app import make_app
from wandb_submit.server.storage.clock import Clock
from wandb_submit.server.storage.database import Database
from wandb_submit.server.storage.place import GoneError, Place
from wandb_submit.server.sweeps.background import BackgroundSearch
from wandb_submit.spec import OFFLINE_SERVER
from wandb_submit.system.files import write_private

_log = logging.getLogger(__name__)
# Where a server says how it is reached, for those who look into the folder.
INFO_FILE = "server.json"
# How long requests that are under way get to end when the server is told to stop.
_GOODBYE_S = 3
# How many connections the kernel keeps waiting for us, and that are taken in one go.
_BACKLOG = 512
# After so long a silence the kernel asks whether a connection's other end is still there.
_ASK_AFTER_S = 120
# How often a server looks whether its data is where it was.
_LOOK_S = 0.5
# How long a thread may keep Python's lock while another waits for it (Python's own choice is 5 ms).
_SWITCH_S = 0.0005
# Memory of this size is given back to the system as soon as it is free (mallopt(3); glibc's own choice grows to 32 MB).
_M_MMAP_THRESHOLD, _LARGE = -3, 1024 * 1024


def serve(data_dir: Path, choices: Choices, hide: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        data_dir: the folder that holds everything.
        choices: what is asked for at this start.
        hide: is told the key, which no log may hold.

    Raises:
        RefusedError: if another server has the folder, or the port cannot be used.
        ConfigError: if the folder cannot be written to.
        ConfigError: if the folder's data is of a newer version.
    """
    os.umask(0o077)
    # The event loop gives Python's lock away at each statement; whoever takes it is to give it back soon.
    sys.setswitchinterval(_SWITCH_S)
    # Else glibc keeps for itself what one large request took.
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
    make_data_dir(data_dir)
    with hold(data_dir):
        try:
            # The folder that the server was started from is its owner's to remove or unmount.
            os.chdir(data_dir)
            # What a server that was killed has left.
            (data_dir / INFO_FILE).unlink(missing_ok=True)
            shutil.rmtree(data_dir / UPLOADS, ignore_errors=True)
            if note := close_to_others(data_dir):
                _log.warning("%s", note)
            key = api_key(data_dir)
            hide(key)
            database = Database(data_dir / DATABASE)
            try:
                _run(_serve(data_dir, choices, database, key, note))
            except GoneError:
                # As if it were killed: SQLite would still write to files that are somebody else's by now.
                os._exit(RefusedError.exit_code)
            except BaseException:
                database.close()
                raise
            database.close()
        except (OSError, sqlite3.Error) as error:
            raise cannot_keep_data(data_dir, error) from error


def _run(serving: Coroutine[None, None, None]) -> None:
    """Runs the server on uvloop's event loop, which takes half as long; on asyncio's where that is not installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serving)
    else:
        uvloop.run(serving)


async def _serve(data_dir: Path, choices: Choices, database: Database, key: str, note: str | None) -> None:
    settings = await database.write(lambda tx: settle(tx, data_dir, choices))
    await database.read(lambda tx: remove_orphans(tx, data_dir))
    listener = _listen(settings, must=choices.port is not None)
    port = int(listener.getsockname()[1])
    await database.write(lambda tx: remember_port(tx, port))
    search = BackgroundSearch(database, settings.seed or 0)
    clock = Clock()
    facts = ServerFacts(
        settings=settings,
        key=key,
        process=secrets.token_hex(8),
        clock=clock,
        heard=Heard(clock),
        search=search,
    )
    await database.write(lambda tx: forget_abandoned(Context(tx=tx, server=facts, base_url="")))
    config = uvicorn.Config(
        make_app(database, facts, search),
        ws="none",
        log_config=None,
        backlog=_BACKLOG,
        access_log=False,
        proxy_headers=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GOODBYE_S,
        server_header=False,
        headers=[("Server", OFFLINE_SERVER)],
    )
    config.load()
    config.http_protocol_class = behind(Gate(raise_limit()), config.http_protocol_class)
    info = {
        "url": f"http://{announced(settings.host)}:{port}",
        "pid": os.getpid(),
        "host": settings.host,
        "port": port,
        "hostname": socket.gethostname(),
        "version": __version__,
        "choices": Choices(
            host=settings.host,
            port=port,
            seed=settings.seed,
            crash_after_s=settings.crash_after_s,
            gone_grace_s=settings.gone_grace_s,
            stop_grace_s=settings.stop_grace_s,
        ).given(),
        "api_key": key,
        "note": note,
    }
    path = data_dir / INFO_FILE

    def announce() -> None:
        # What has been imported stays: looking through it for garbage again and again would hold up everybody.
        gc.freeze()
        _announce(path, info)
        _log.info("serving %s at %s", data_dir, info["url"])

    # uvicorn raises the signal that ended it once more, for whoever handled it before. Nobody needs it again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    server = _Server(config, announce)
    place = Place(data_dir)
    database.check = place.check
    pulse = asyncio.create_task(beat(data_dir))
    watch = asyncio.create_task(_keep_watch(place, server, path, info))
    try:
        await server.serve([listener])
    finally:
        pulse.cancel()
        if _is_own(path, info):
            path.unlink()
    if watch.done():
        await watch
    watch.cancel()
    _log.info("stopped")


async def _keep_watch(place: Place, server: _Server, path: Path, info: Mapping[str, object]) -> None:
    """Ends the server when its data is no longer where it was; without `server.json` nobody would find it.

    Raises:
        GoneError: then.
    """
    failing = False
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            place.check_all()
            place.check_content()
            if server.started and not path.exists():
                _announce(path, info)
                _log.warning("%s was not there any more: written again", path)
        except GoneError as error:
            _tell(path.parent, str(error))
            server.should_exit = True
            raise
        except (OSError, sqlite3.Error) as error:
            if not failing:
                _log.warning("cannot look after %s now: %s", path.parent, error)
            failing = True
        else:
            failing = False


def _announce(path: Path, info: Mapping[str, object]) -> None:
    write_private(path, json.dumps(info, indent=2) + "\n")


def _is_own(path: Path, info: Mapping[str, object]) -> bool:
    """Whether what tells how a server is reached is of this one; another may serve the folder by now."""
    try:
        return bool(json.loads(path.read_bytes()) == info)
    except (OSError, ValueError):
        return False


def _tell(data_dir: Path, reason: str) -> None:
    """Writes down why the server ends; its log may be gone with the rest, and the folder may be nobody's now."""
    word = f"error: {reason}\n".encode()
    os.write(sys.stderr.fileno(), word)
    log = data_dir / LOG
    with contextlib.suppress(OSError):
        if not is_held(data_dir) and not (log.exists() and os.path.samestat(log.stat(), os.fstat(sys.stderr.fileno()))):
            with log.open("ab") as file:
                file.write(word)


def _listen(settings: Settings, *, must: bool) -> socket.socket:
    """A listening socket: on the port that is asked for, or the one of last time if it is free, or any."""
    candidates = [settings.port] if must else [settings.port, 0] if settings.port else [0]
    problem: OSError | None = None
    for port in candidates:
        try:
            found = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            family, kind, protocol, _, address = found[0]
            # With the protocol named, asyncio sends without delay; else every answer would take 40 ms longer.
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            problem = error
            continue
        try:
            # The connections of the server before us may linger for a minute.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # A node that has lost its power says no goodbye: the kernel asks after it, and forgets it.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ASK_AFTER_S)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            problem = error
        else:
            return listener
    reason = "" if problem is None else problem.strerror or str(problem)
    raise RefusedError(f"cannot listen on {settings.host}:{candidates[0]}: {reason}") from problem


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it has begun to answer."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass
