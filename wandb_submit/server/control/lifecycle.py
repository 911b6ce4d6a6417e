"""Starting, finding and stopping the offline sweep server of a data folder.

Light on purpose: the command line loads this, and the server's own packages only when they are needed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from wandb_submit import errors
from wandb_submit.errors import RefusedError, UnavailableError, WandbSubmitError
from wandb_submit.server.control.addresses import is_loopback
from wandb_submit.server.control.lock import alone, is_held, make_data_dir, seems_alive
from wandb_submit.server.control.requirements import check_installed
from wandb_submit.server.control.settings import Choices
from wandb_submit.server.request.auth import authorization
from wandb_submit.store.paths import server_command
from wandb_submit.system.process import python_argv, spawn_detached
from wandb_submit.wandb_api.http import Transport

_POLL_S = 0.02
_ANSWER_S = 20.0
_ALONE_S = 10.0
# The servers that this process has started. They outlive it; while it lives, it must collect their exit status.
_children: list[subprocess.Popen[bytes]] = []
_UNUSED_FILE = "unused"  # gone once a server is of use to somebody, whatever becomes of what it was started for
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
        host: the address that it listens on.
        machine: the name of the machine that it runs on.
        choices: what it was asked for at its start, or remembered, as `Choices` writes it.
        note: what its owner should know of its start.
        api_key: the key that it demands; kept out of `repr`, and so out of logs.
    """

    url: str
    pid: int
    data_dir: Path
    host: str
    machine: str
    choices: Mapping[str, str]
    note: str | None
    api_key: str = field(repr=False)


def start(
    data_dir: Path,
    *,
    host: str | None = None,
    host_if_new: str | None = None,
    port: int = 0,
    seed: int | None = None,
    crash_after_s: float | None = None,
    gone_grace_s: float | None = None,
    stop_grace_s: float | None = None,
    timeout_s: float = 30,
) -> ServerInfo:
    """Starts the folder's server, unless it runs already, and waits until it answers.

    The server outlives the caller and its terminal; its log is `server.log` in the folder. The folder remembers
    what is asked for: what is not given stays as it was last time.

    Args:
        data_dir: the folder that the server keeps everything in; made if need be.
        host: the address to listen on; at first 127.0.0.1.
        host_if_new: the same, for a folder that remembers none.
        port: the port to listen on; 0 means that of last time, or any.
        seed: what searches start from.
        crash_after_s: see `Settings`.
        gone_grace_s: see `Settings`.
        stop_grace_s: see `Settings`.
        timeout_s: how long to wait for it.

    Raises:
        ConfigError: if a value makes no sense, the folder cannot be written to, or the server's optional packages are
            missing.
        RefusedError: if the port cannot be used, or the server runs already in another way.
        UnavailableError: if it does not answer in time.
    """
    choices = Choices(
        host=host,
        host_if_new=host_if_new,
        port=port or None,
        seed=seed,
        crash_after_s=crash_after_s,
        gone_grace_s=gone_grace_s,
        stop_grace_s=stop_grace_s,
    )
    data_dir = data_dir.absolute()
    deadline = time.monotonic() + timeout_s
    running = status(data_dir)
    if running is not None:
        _check_usable(running, choices)
    else:
        check_installed()
    make_data_dir(data_dir)
    with alone(data_dir, timeout_s=timeout_s):
        child: subprocess.Popen[bytes] | None = None
        log = data_dir / "server.log"
        beginning = log.stat().st_size if log.exists() else 0
        if not is_held(data_dir):
            _check_elsewhere(data_dir)
            child = _spawn(data_dir, choices, log)
        with _killed_if_it_fails(child):
            while time.monotonic() < deadline:
                if child is not None and (ended := child.poll()) is not None:
                    raise _failure(ended, log, beginning)
                running = status(data_dir)
                if running is not None and (child is None or running.pid == child.pid) and _answers(running):
                    if child is None:
                        _check_usable(running, choices)
                    if not _is_ours(running):
                        keep(data_dir)
                    return running
                time.sleep(_POLL_S)
            raise UnavailableError(
                f"the offline sweep server of {data_dir} has not answered within {timeout_s:.0f} s\n"
                f"{_tail(log, beginning)}"
            )


def keep(data_dir: Path) -> None:
    """Says that the folder's server is to stay: something was created on it, or another command uses it."""
    (data_dir / _UNUSED_FILE).unlink(missing_ok=True)


def stop_unless_kept(data_dir: Path) -> bool:
    """Stops the folder's server if this process has started it and it is of no use to anybody; returns whether it did.

    Raises:
        UnavailableError: if it has not ended in time.
    """
    data_dir = data_dir.absolute()
    running = status(data_dir)
    if running is None or not _is_ours(running):
        return False
    with alone(data_dir, timeout_s=_ALONE_S):  # nobody finds it useful meanwhile
        return (data_dir / _UNUSED_FILE).exists() and stop(data_dir)


def status(data_dir: Path) -> ServerInfo | None:
    """The folder's server if it is alive: the lock tells, which dies with its process; a pid may be another's."""
    data_dir = data_dir.absolute()
    known = _known(data_dir)
    if known is None or not is_held(data_dir):
        return None
    try:
        return ServerInfo(
            url=str(known["url"]),
            pid=int(str(known["pid"])),
            data_dir=data_dir,
            host=str(known["host"]),
            machine=str(known["hostname"]),
            choices={str(name): str(value) for name, value in dict(known.get("choices") or {}).items()},  # type: ignore[call-overload]
            note=str(known["note"]) if known.get("note") else None,
            api_key=str(known["api_key"]),
        )
    except (KeyError, ValueError, TypeError):
        return None


def facts(running: ServerInfo) -> dict[str, object]:
    """What a server tells about itself: its version, for how long it has been up, and what it holds.

    Raises:
        UnavailableError: if it does not answer.
    """
    try:
        known = json.loads(_get(running, "/healthz/facts", {"Authorization": authorization(running.api_key)}))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(f"the offline sweep server at {running.url} does not answer: {error}") from error
    return known if isinstance(known, dict) else {}


def storage_trouble(running: ServerInfo) -> str | None:
    """Why a server can store nothing now, in its own words; `None` if it can.

    Raises:
        UnavailableError: if it does not answer.
    """
    transport = Transport(running.url, running.api_key, offline=True, timeout_s=_ANSWER_S)
    try:
        answer = transport.post_json("/healthz/storage", {})
    finally:
        transport.close()
    return answer.complaint if answer.busy else None


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
    if running.machine != socket.gethostname():
        raise RefusedError(f"the offline sweep server of {data_dir} runs on {running.machine}: stop it there")
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


def _check_usable(running: ServerInfo, choices: Choices) -> None:
    """Refuses a server that runs already, but not as it is asked for or not where we could reach it."""
    if running.machine != socket.gethostname() and is_loopback(running.host):
        raise RefusedError(
            f"the offline sweep server of {running.data_dir} runs on {running.machine}, and only programs there reach "
            f"it: stop it there, and start it with --host {running.machine}"
        )
    if different := choices.disagreements(running.choices):
        raise RefusedError(
            f"the offline sweep server of {running.data_dir} runs already, with {', '.join(different)}: "
            f"stop it first (`{server_command('stop', running.data_dir)}`); the next start goes on with its data"
        )


def _check_elsewhere(data_dir: Path) -> None:
    """Refuses to start beside a server on another machine whose lock this machine's file system does not show."""
    machine = str((_known(data_dir) or {}).get("hostname", ""))
    if machine and machine != socket.gethostname() and seems_alive(data_dir):
        raise RefusedError(
            f"the offline sweep server of {data_dir} was alive on {machine} less than a minute ago, and this file "
            f"system does not show its lock here: stop it there. If it is dead, try again in a minute"
        )


@contextlib.contextmanager
def _killed_if_it_fails(child: subprocess.Popen[bytes] | None) -> Iterator[None]:
    """Leaves no server of ours behind that has not answered, also at Ctrl-C."""
    try:
        yield
    except BaseException:
        if child is not None:
            child.kill()
            child.wait()
        raise


def _is_ours(running: ServerInfo) -> bool:
    """Whether this process has started a server."""
    pids = [child.pid for child in _children if child.poll() is None]
    return running.machine == socket.gethostname() and running.pid in pids


def _spawn(data_dir: Path, choices: Choices, log: Path) -> subprocess.Popen[bytes]:
    with contextlib.suppress(OSError):  # a full disk, of which the server itself tells
        (data_dir / _UNUSED_FILE).touch(mode=0o600)
    argv = python_argv("wandb_submit.server", "--data", str(data_dir), *choices.arguments())
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


def _answers(running: ServerInfo) -> bool:
    try:
        return bool(_get(running, "/healthz"))
    except (OSError, http.client.HTTPException):
        return False


def _get(running: ServerInfo, path: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Asks the server; directly, never through a proxy."""
    parts = urlsplit(running.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise http.client.HTTPException(f"HTTP {answer.status}")
    return content


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
