"""The process that an agent's runs are forked from, as the agent sees it; `programs/zygote.py` is what runs there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from wandb_submit.agent.runs.trial import Trial, open_log
from wandb_submit.errors import ConfigError, WandbSubmitError
from wandb_submit.spec import Preload
from wandb_submit.system.process import end_of, start_in_group

_PROGRAM = Path(__file__).with_name("programs") / "zygote.py"
_STDERR = 2
_END_S = 5.0
_KILLED = -9  # how a run ends whose zygote has gone


class ColdStartError(WandbSubmitError):
    """Runs have to be started by themselves; the text says why."""


class ZygoteDiedError(WandbSubmitError):
    """The zygote has gone before it forked a run."""


class PreloadError(ConfigError):
    """A module that was asked for cannot be imported."""


class Zygote:
    """A zygote that is ready to fork.

    It dies with the agent, and the runs with it, as if the agent had started them. Not thread-safe: it belongs to
    one event loop.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._reader = reader
        self._writer = writer
        self._one_at_a_time = asyncio.Lock()
        self._answer: asyncio.Future[Trial] | None = None
        self._asked_for = ""
        self._runs: dict[int, asyncio.Future[int]] = {}
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def start(
        cls,
        interpreter: Sequence[str],
        preload: Preload,
        *,
        folders: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        cores: Collection[int] = (),
    ) -> Zygote:
        """Starts a zygote and waits until it has imported what it should.

        Args:
            interpreter: the runs' Python with its options.
            preload: what to import.
            folders: what is first on the runs' `sys.path`.
            env: its environment; runs bring their own.
            cwd: the folder that it starts in.
            cores: what it and its runs run on; empty is what we run on.

        Raises:
            PreloadError: if a module that is required cannot be imported.
            ColdStartError: if there can be no such process.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            asked = {
                "socket": theirs.fileno(),
                "folders": list(folders),
                "modules": list(preload.modules),
                "required": preload.required,
            }
            argv = [*interpreter, str(_PROGRAM), json.dumps(asked)]
            try:
                process = start_in_group(
                    argv, env=env, cwd=cwd, output=_STDERR, cores=cores, pass_fds=[theirs.fileno()]
                )
            except OSError as error:
                raise ColdStartError(f"{interpreter[0]} cannot be started: {error.strerror}") from error
            theirs.close()
            reader, writer = await asyncio.open_unix_connection(sock=ours.dup())
        try:
            hello = json.loads(await reader.readline() or "{}")
            _check(hello, process.pid, interpreter)
        except BaseException:  # a stop that cuts us short, too: nobody else knows of it
            writer.close()
            await _end(process)
            raise
        return cls(process, reader, writer)

    @property
    def is_alive(self) -> bool:
        """Whether it can still fork."""
        return not self._listener.done()

    async def fork(self, run_id: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> Trial:
        """Forks a run.

        Args:
            run_id: the run.
            argv: its program, a Python file, and that one's arguments.
            env: its environment.
            cwd: the folder that it starts in.
            log: the file that what it prints is appended to.

        Raises:
            ZygoteDiedError: if the zygote has gone.
            ColdStartError: if it cannot fork.
            OSError: if the log cannot be written.
        """
        os.close(open_log(log))
        request = {"argv": list(argv), "env": dict(env), "cwd": str(cwd), "log": str(log)}
        async with self._one_at_a_time:
            if not self.is_alive:
                raise ZygoteDiedError("the zygote has gone")
            self._asked_for = run_id
            self._answer = asyncio.get_running_loop().create_future()
            self._writer.write(json.dumps(request).encode() + b"\n")
            return await self._answer

    async def close(self) -> None:
        """Ends it; its runs have ended before."""
        self._writer.close()
        await _end(self._process)
        await self._listener

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                self._hear(json.loads(line))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ZygoteDiedError("the zygote has gone"))
        for run in self._runs.values():
            if not run.done():
                run.set_result(_KILLED)

    def _hear(self, message: Mapping[str, object]) -> None:
        assert self._answer is not None  # noqa: S101 it speaks when it is spoken to
        match message:
            case {"pid": int(pid)}:
                self._runs[pid] = asyncio.get_running_loop().create_future()
                self._answer.set_result(Trial(self._asked_for, pid, self._runs[pid], warm=True))
            case {"error": str(reason)}:
                self._answer.set_exception(ColdStartError(f"the zygote cannot fork: {reason}"))
            case {"ended": int(pid), "status": int(status)}:
                self._runs.pop(pid).set_result(os.waitstatus_to_exitcode(status))


def _check(hello: Mapping[str, object], pid: int, interpreter: Sequence[str]) -> None:
    match hello:
        case {"ready": int(said)} if said == pid:
            return
        case {"ready": _}:
            raise ColdStartError(f"{interpreter[0]} is not an interpreter itself, but starts one in another process")
        case {"failed": str(reason)}:
            raise PreloadError(f"--preload cannot import {reason}")
        case {"refused": str(reason)}:
            raise ColdStartError(reason)
    raise ColdStartError(f"{interpreter[0]} ended before it had imported the modules; the task's log says why")


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Lets it end by itself, now that nobody talks to it, so that its modules may clean up; not for long."""
    ended = end_of(process)
    await asyncio.wait({ended}, timeout=_END_S)
    if not ended.done():
        process.kill()
    await ended
