"""How an agent starts its runs: each by itself, or forked from a process that has imported their modules."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wandb_submit.agent.runs.command import ENV, RunFiles, build_argv
from wandb_submit.agent.runs.trial import Trial
from wandb_submit.agent.runs.zygote import ColdStartError, Zygote, ZygoteDiedError
from wandb_submit.errors import ConfigError
from wandb_submit.spec import Preload

_MOST_DEATHS = 3
# Options of the interpreter that do not say what it is to run: those that stand alone, and those with a value.
_PLAIN_OPTIONS = re.compile(r"-[bBdEIOPqsSuv]+|-[WX].+")
_OPTIONS_BEFORE_A_VALUE = ("-W", "-X")
_LOG = logging.getLogger("wandb_submit.agent")


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonCommand:
    """A command of the form `python OPTIONS PROGRAM.py ARGUMENTS` or `python OPTIONS -m MODULE ARGUMENTS`.

    Attributes:
        interpreter: the interpreter and its options.
        program: the program, or `-m` and the module, and the arguments.
    """

    interpreter: tuple[str, ...]
    program: tuple[str, ...]

    @classmethod
    def of(cls, argv: Sequence[str]) -> PythonCommand:
        """Reads a run's command.

        Raises:
            ColdStartError: if it is of another form.
        """
        rest = list(argv[1:] if argv[0] == ENV else argv)
        options = 1
        while options < len(rest) and (
            rest[options] in _OPTIONS_BEFORE_A_VALUE or _PLAIN_OPTIONS.fullmatch(rest[options])
        ):
            options += 2 if rest[options] in _OPTIONS_BEFORE_A_VALUE else 1
        program = tuple(rest[options:])
        is_python = bool(rest) and re.fullmatch(r"python[0-9.]*", Path(rest[0]).name) is not None
        is_file = bool(program) and program[0].endswith(".py")
        is_module = len(program) > 1 and program[0] == "-m"
        if not (is_python and (is_file or is_module)):
            raise ColdStartError(
                "the sweep's command is not of the form `python PROGRAM.py` or `python -m MODULE`: "
                f"{' '.join(argv)[:100]}"
            )
        return cls(interpreter=tuple(rest[:options]), program=program)

    def folder(self, cwd: Path) -> str:
        """What Python puts first on `sys.path` for it, started in `cwd`."""
        if self.program[0] == "-m":
            return os.path.realpath(cwd)
        return os.path.dirname(os.path.realpath(cwd / self.program[0]))  # noqa: PTH120 as it goes on


def why_cold(preload: Preload | None, config: Mapping[str, Any]) -> str | None:
    """Why runs will start cold although they were to start warm, as far as a sweep's configuration tells."""
    if preload is None:
        return None
    try:
        PythonCommand.of(build_argv(config.get("command"), config.get("program"), {}, RunFiles.of("", "", "")))
    except (ColdStartError, ConfigError) as error:
        return str(error)
    return None


class Launcher:
    """Starts an agent's runs: warm where that was asked for and can be, else cold.

    Args:
        preload: what runs are to find imported; `None` starts them cold.
        cwd: the folder that they start in.
        cores: what they run on; empty is what we run on.
        on_cold: is told why runs start cold although they were to start warm.
    """

    def __init__(
        self,
        preload: Preload | None,
        *,
        cwd: Path,
        cores: Collection[int],
        on_cold: Callable[[str], None],
    ) -> None:
        self._preload = preload
        self._cwd = cwd
        self._cores = cores
        self._on_cold = on_cold
        self._why_cold: str | None = None
        self._zygote: Zygote | None = None
        self._kind: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        self._deaths = 0

    async def prepare(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Imports the modules before the first run is there; afterwards this does nothing.

        Args:
            argv: the command of a run.
            env: the environment of one.

        Raises:
            PreloadError: if a module that is required cannot be imported.
        """
        if self._preload is None or self._why_cold is not None:
            return
        try:
            await self._warm(self._preload, PythonCommand.of(argv), env)
        except ColdStartError as error:
            self._give_up(error)

    async def start(self, run_id: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> Trial:
        """Starts a run.

        Raises:
            PreloadError: if a module that is required cannot be imported.
            OSError: if the run cannot be started, or its log not written.
        """
        while self._preload is not None and self._why_cold is None:
            try:
                command = PythonCommand.of(argv)
                zygote = await self._warm(self._preload, command, env)
                return await zygote.fork(run_id, command.program, env=env, cwd=self._cwd, log=log)
            except ZygoteDiedError:
                continue
            except ColdStartError as error:
                self._give_up(error)
        return await Trial.start(run_id, argv, env=env, cwd=self._cwd, log=log, cores=self._cores)

    async def close(self) -> None:
        """Ends the process that runs are forked from."""
        if self._zygote is not None:
            await self._zygote.close()
            self._zygote = None

    async def _warm(self, preload: Preload, command: PythonCommand, env: Mapping[str, str]) -> Zygote:
        """The zygote, a new one if the last one has died."""
        if self._zygote is not None and not self._zygote.is_alive:
            await self.close()
            self._deaths += 1
            _LOG.warning("the process that runs are forked from has died; it is started again")
            if self._deaths >= _MOST_DEATHS:
                raise ColdStartError(f"the process that they are forked from has died {self._deaths} times")
        kind = (command.interpreter, preload.folders or (command.folder(self._cwd),))
        if self._zygote is None:
            self._kind = kind
            self._zygote = await Zygote.start(
                command.interpreter, preload, folders=kind[1], env=env, cwd=self._cwd, cores=self._cores
            )
            _LOG.info("runs are forked from process %d, which has imported their modules", self._zygote.pid)
        elif self._kind != kind:
            raise ColdStartError("the sweep's runs do not all have the same interpreter and program folder")
        return self._zygote

    def _give_up(self, error: ColdStartError) -> None:
        self._why_cold = str(error)
        _LOG.warning("runs start cold: %s", error)
        self._on_cold(str(error))
