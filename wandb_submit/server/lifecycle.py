"""Starting, finding and stopping the offline sweep server of a data folder.

Light on purpose: the command line loads this, and the server's own packages only when they are needed.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from wandb_submit import errors
from wandb_submit.errors import RefusedError, UnavailableError, WandbSubmitError
from wandb_submit.process import python_argv, spawn_detached
from wandb_submit.server.lock import alone, is_held, make_data_dir
from wandb_submit.server.requirements import check_installed

_POLL_S = 0.02
# The servers that this process has started. They outlive it; while it lives, it must collect their exit status.
_children: list[subprocess.Popen[bytes]] = []
_LOG_LINES = 10
_ERRORS: dict[int, type[WandbSubmitError]] = {
    kind.exit_code: kind for kind in (errors.ConfigError, errors.RefusedError, errors.UnavailableError)
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """A running server.

    Attributes:
        url: where it answers.
        pid: its process, on the machine that it runs on.
        data_dir: the folder that it keeps everything in.
        api_key: the key that it demands; kept out of `repr`, and so out of logs.
    """

    url: str
    pid: int
    data_dir: Path
    api_key: str = field(repr=False)


def start(data_dir: Path, *, host: str = "127.0.0.1", port: int = 0, timeout_s: float = 30) -> ServerInfo:
    """Starts the folder's server, unless it runs already, and waits until it answers.

    The server outlives the caller and its terminal; its log is `server.log` in the folder.

    Args:
        data_dir: the folder that the server keeps everything in; made if need be.
        host: the address to listen on.
        port: the port to listen on; 0 means that of last time, or any.
        timeout_s: how long to wait for it.

    Raises:
        ConfigError: if the server's optional packages are missing.
        RefusedError: if the folder or the port cannot be used.
        UnavailableError: if it does not answer in time.
    """
    data_dir = data_dir.absolute()
    deadline = time.monotonic() + timeout_s
    running = status(data_dir)
    if running is not None and _answers(running.url):
        return running
    check_installed()
    make_data_dir(data_dir)
    with alone(data_dir, timeout_s=timeout_s):
        child: subprocess.Popen[bytes] | None = None
        log = data_dir / "server.log"
        beginning = log.stat().st_size if log.exists() else 0
        if not is_held(data_dir):
            child = _spawn(data_dir, host, port, log)
        while time.monotonic() < deadline:
            ended = None if child is None else child.poll()
            if ended is not None:
                raise _failure(ended, log, beginning)
            running = status(data_dir)
            if running is not None and (child is None or running.pid == child.pid) and _answers(running.url):
                return running
            time.sleep(_POLL_S)
        if child is not None:
            child.kill()
            child.wait()
    raise UnavailableError(
        f"the offline sweep server of {data_dir} has not answered within {timeout_s:.0f} s\n{_tail(log, beginning)}"
    )


def status(data_dir: Path) -> ServerInfo | None:
    """The folder's server if it is alive: the lock tells, which dies with its process; a pid may be another's."""
    data_dir = data_dir.absolute()
    known = _known(data_dir)
    if known is None or not is_held(data_dir):
        return None
    try:
        return ServerInfo(
            url=str(known["url"]), pid=int(str(known["pid"])), data_dir=data_dir, api_key=str(known["api_key"])
        )
    except (KeyError, ValueError):
        return None


def stop(data_dir: Path, timeout_s: float = 10) -> bool:
    """Stops the folder's server and waits for its end; returns whether there was one.

    Raises:
        RefusedError: if it runs on another machine, or belongs to somebody else.
        UnavailableError: if it has not ended in time.
    """
    data_dir = data_dir.absolute()
    running = status(data_dir)
    if running is None:
        return False
    machine = str((_known(data_dir) or {}).get("hostname", socket.gethostname()))
    if machine != socket.gethostname():
        raise RefusedError(f"the offline sweep server of {data_dir} runs on {machine}: stop it there")
    try:
        os.kill(running.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise RefusedError(f"the offline sweep server of {data_dir} belongs to another user") from error
    deadline = time.monotonic() + timeout_s
    while is_held(data_dir):
        if time.monotonic() >= deadline:
            raise UnavailableError(
                f"the offline sweep server of {data_dir} (process {running.pid}) has not ended within {timeout_s:.0f} s"
            )
        time.sleep(_POLL_S)
    for child in _children:
        # It has let go of the lock, which is the last thing that it does.
        if child.pid == running.pid:
            child.wait()
    return True


def _spawn(data_dir: Path, host: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    argv = python_argv("wandb_submit.server", "--data", str(data_dir), "--host", host, "--port", str(port))
    try:
        child = spawn_detached(argv, log=log)
    except OSError as error:
        raise RefusedError(f"cannot start the offline sweep server: {error.strerror or error}") from error
    _children[:] = [earlier for earlier in _children if earlier.poll() is None]
    _children.append(child)
    return child


def _known(data_dir: Path) -> dict[str, object] | None:
    """What the server wrote about itself, if it can be read."""
    try:
        known = json.loads((data_dir / "server.json").read_text())
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def _answers(url: str) -> bool:
    """Whether the server answers; asked for directly, never through a proxy."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _failure(returncode: int, log: Path, beginning: int) -> WandbSubmitError:
    """Why the server ended before it answered: its own last word, or the end of its log."""
    tail = _tail(log, beginning)
    last = tail.rpartition("\n")[2]
    if returncode in _ERRORS and last.startswith("error: "):
        return _ERRORS[returncode](last.removeprefix("error: "))
    if not tail:
        return UnavailableError(f"the offline sweep server ended at once and could not say why in {log}: disk full?")
    return UnavailableError(f"the offline sweep server ended at once (status {returncode})\n{tail}".rstrip())


def _tail(log: Path, beginning: int) -> str:
    """The last lines that were written to the log since `beginning`."""
    try:
        text = log.read_bytes()[beginning:].decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-_LOG_LINES:])
