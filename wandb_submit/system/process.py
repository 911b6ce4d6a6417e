"""Programs that we call: argv lists, a timeout, no shell."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wandb_submit.errors import RefusedError, UnavailableError
from wandb_submit.system.threads import in_daemon_thread

_IN_OWN_GROUP: dict[str, Any] = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
# Names, in the environment of all that a task on this machine starts, the task that it ends with. What is detached
# has neither it nor the run that it was started in.
JOB = "WANDB_SUBMIT_JOB_ID"
_NOT_FOR_DETACHED = (JOB, "WANDB_RUN_ID")
# asyncio wants to know; the longest answer of a worker is a few thousand points.
_MAX_LINE = 256 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """What a program answered."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None, stdin: str | None = None
) -> Completed:
    """Calls a program and waits for its answer; its exit status is the caller's to judge.

    Args:
        argv: the program and its arguments; no shell sees them.
        timeout_s: how long to wait for the answer.
        env: the whole environment; `None` is ours.
        stdin: what the program reads; `None` is nothing.

    Raises:
        RefusedError: if there is no such program.
        UnavailableError: if it has not answered within `timeout_s`.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin or "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=None if env is None else dict(env),
            check=False,
        )
    except FileNotFoundError as error:
        raise RefusedError(f"the program {argv[0]!r} is not on PATH") from error
    except OSError as error:
        raise RefusedError(f"the program {argv[0]!r} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{argv[0]} has not answered within {timeout_s:.0f} s: try again later") from error
    return Completed(argv=tuple(argv), returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


def run_in_shell(lines: Sequence[str]) -> int:
    """Lets a shell run lines that somebody wrote for it, with our own input and output; returns its exit status."""
    return subprocess.run(["bash", "-c", "\n".join(lines)], check=False).returncode


def take_environment_of_shell(lines: Sequence[str]) -> int:
    """Lets a shell run lines such as `source env/bin/activate`, and makes its environment ours.

    Returns:
        The shell's exit status; if it is not 0, our environment is as it was.
    """
    # Not a pipe: what the lines leave in the background would keep it open.
    descriptor = os.memfd_create("environment", 0)
    try:
        script = "\n".join([*lines, f"exec env -0 >/proc/self/fd/{descriptor}"])
        done = subprocess.run(["bash", "-c", script], pass_fds=(descriptor,), check=False)
        if done.returncode != 0:
            return done.returncode
        os.lseek(descriptor, 0, os.SEEK_SET)
        with os.fdopen(os.dup(descriptor), "rb") as file:
            pairs = [entry.partition(b"=") for entry in file.read().split(b"\0") if entry]
    finally:
        os.close(descriptor)
    os.environb.clear()
    os.environb.update({name: value for name, _, value in pairs})
    return 0


def python_argv(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this environment as a program.

    Unlike `python -m` it does not put the current folder first on `sys.path`: that is a user's, and a `random.py`
    or `netrc.py` there would stand in for Python's own (`python -P` does the same from 3.11 on).
    """
    return [sys.executable, "-u", str(Path(__file__).with_name("run_module.py")), module, *arguments]


def start_in_group(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    output: int | None = None,
    cores: Collection[int] = (),
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts a program in a process group of its own, with nothing to read; if we die, that group is killed.

    Nothing of ours runs between fork and exec (there is no `preexec_fn`), so that our memory is not copied first: a
    start takes a tenth of the time.

    Args:
        argv: the program and its arguments.
        env: its whole environment.
        cwd: the folder that it starts in.
        output: an open file for its standard output and error; `None` are ours.
        cores: what it runs on; empty is what we run on.
        pass_fds: open files that it gets under the same numbers.

    Raises:
        OSError: if it cannot be started.
    """
    cord = os.open(f"/proc/self/fd/{_lifeline(os.getpid())}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _running_on(cores):
            process = subprocess.Popen(
                list(argv),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(*pass_fds, cord),
                **_IN_OWN_GROUP,
            )
        # When the last writing end is closed, at our death, the kernel kills whom this reading end belongs to, as
        # long as somebody has it open; F_SETOWN in fcntl(2). A group, unlike with PR_SET_PDEATHSIG.
        fcntl.fcntl(cord, fcntl.F_SETOWN, -process.pid)
        fcntl.fcntl(cord, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(cord, fcntl.F_SETFL, os.O_ASYNC)
    finally:
        os.close(cord)
    return process


@functools.cache
def _lifeline(pid: int) -> int:
    """The reading end of a pipe that this process, and nobody else, can write to until it dies."""
    reading, _ = os.pipe()
    return reading


@contextlib.contextmanager
def _running_on(cores: Collection[int]) -> Iterator[None]:
    """Lets this thread, and what it starts, run on these cores for a while; all the same where there are none."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def end_of(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """Becomes a program's exit status when it has ended, negative for a signal's number."""
    try:
        watch = os.pidfd_open(process.pid)
    except OSError:  # before Linux 5.3
        return asyncio.ensure_future(in_daemon_thread(process.wait))
    loop = asyncio.get_running_loop()
    status: asyncio.Future[int] = loop.create_future()

    def has_ended() -> None:
        loop.remove_reader(watch)
        os.close(watch)
        if not status.cancelled():
            status.set_result(process.wait())

    loop.add_reader(watch, has_ended)
    return status


async def start_talking(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: int
) -> asyncio.subprocess.Process:
    """Starts a program in a process group of its own that we talk to: its input and its errors are pipes.

    If we die it is left alone, and finds its input at an end.

    Args:
        argv: the program and its arguments.
        env: its whole environment.
        cwd: the folder that it starts in.
        output: an open file for its standard output.

    Raises:
        OSError: if it cannot be started.
    """
    return await asyncio.create_subprocess_exec(
        *argv,
        env=dict(env),
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=output,
        stderr=asyncio.subprocess.PIPE,
        **_IN_OWN_GROUP,
    )


async def start_worker(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """Starts a program that reads requests from its standard input and answers on its standard output.

    Its errors go where ours do. The lines that it answers may be of any length.
    """
    return await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=None if env is None else dict(env),
        limit=_MAX_LINE,
    )


def spawn_detached(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own, so that it outlives the terminal, the caller and a task they are in.

    Its standard output and error are appended to `log`, which only the owner may read.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env={
                name: value
                for name, value in (os.environ if env is None else env).items()
                if name not in _NOT_FOR_DETACHED
            },
            cwd=cwd,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def wait_until(happened: Callable[[], bool], *, timeout_s: float, every_s: float = 0.05) -> bool:
    """Waits for something that nobody signals; tells whether it happened in time."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_s)
    return True


def log_tail(path: Path, lines: int = 5) -> str:
    """The last lines of a log, to show why something did not start; empty where there is none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])
