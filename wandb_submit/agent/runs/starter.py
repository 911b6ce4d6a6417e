"""How an agent makes a process of what the server hands out: configuration, command line, environment, start."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.agent.protocol import Command, SweepInfo
from wandb_submit.agent.runs import command as commands
from wandb_submit.agent.runs import step
from wandb_submit.agent.runs.launcher import Launcher
from wandb_submit.agent.runs.trial import Trial
from wandb_submit.agent.shares import Share
from wandb_submit.spec import Endpoint, SubmissionSpec, SweepRef
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.system.files import is_full, unwritable
from wandb_submit.system.threads import in_daemon_thread
from wandb_submit.wandb_api.credentials import Login, patience, trial_environment


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedRun:
    """A run that only has to be started; its configuration file is there.

    Attributes:
        environment: all of it, the server's key included: not to be written anywhere, nor shown.
        log: the file that what it prints is appended to.
    """

    run_id: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path

    def __repr__(self) -> str:
        """Without the environment, which holds the key."""
        return f"PreparedRun({self.run_id!r}, {self.argv!r})"


class Starter:
    """Starts one agent's runs, on its share of the task's devices.

    Args:
        on_cold: told why, once, if runs that were to start warm cannot.
    """

    def __init__(
        self,
        *,
        sweep: SweepRef,
        endpoint: Endpoint,
        paths: SubmissionPaths,
        spec: SubmissionSpec,
        share: Share,
        on_cold: Callable[[str], None],
    ) -> None:
        self._sweep = sweep
        self._endpoint = endpoint
        self._paths = paths
        self._spec = spec
        # Ranks have their own cores, which they find on their nodes.
        own = share if spec.ranks is None else dataclasses.replace(share, cores=())
        # Once: between two runs it would be a tenth of our time.
        self._environment = commands.clean_environment(own.environment(os.environ))
        self._environment.update(patience(self._environment, offline=endpoint.server_dir is not None))
        self._command: tuple[object, ...] = ()
        self._rank_0 = ""
        self._launcher = Launcher(
            spec.preload,
            cwd=spec.workdir,
            cores=share.cores if share.bind else (),
            on_cold=on_cold,
        )

    async def warm_up(self, sweep: SweepInfo) -> None:
        """Takes the sweep's `command`, and does once what all runs need, before the server hands out one.

        That is to look for their program, to have their modules imported, and to ask Slurm where rank 0 of each will
        be.

        Raises:
            NotFoundError: if there is no such program here.
            PreloadError: if a module that was asked for cannot be imported.
        """
        self._command = sweep.command
        if (ranks := self._spec.ranks) is not None:
            self._rank_0 = await in_daemon_thread(lambda: step.address(ranks))
        files = commands.RunFiles.of(str(self._spec.workdir), self._sweep.id, "")
        argv = self._argv(sweep.program, {}, files)
        if self._spec.ranks is None:
            commands.check_program(argv, self._environment, self._spec.workdir)
        await self._launcher.prepare(argv, self._environment)

    def prepare(self, order: Command, run_id: str, login: Login) -> PreparedRun:
        """Writes a run's configuration, and builds its command line and environment.

        Args:
            order: what the server asked for.
            run_id: the run.
            login: the server's address, and the key for it.

        Raises:
            ConfigError: if the configuration cannot be written, or the command not be built.
        """
        named = os.environ.get("WANDB_DIR")
        wandb_dir = named or str(self._spec.workdir)
        # WANDB_DIR may be a node's own; ranks on other nodes read the configuration, too.
        files_dir = wandb_dir if self._spec.ranks is None else str(self._paths.folder)
        files = commands.RunFiles.of(files_dir, self._sweep.id, run_id)
        params = commands.parameters(order.args)
        argv = self._argv(order.program, params, files)
        try:
            commands.write_files(files, order.args, params, self._command)
        except OSError as error:
            raise unwritable(files.config.parent, error, self._remedy(error, named)) from error
        environment = commands.build_environment(
            self._environment,
            sweep=self._sweep,
            run_id=run_id,
            files=files,
            wandb_dir=wandb_dir,
            server=trial_environment(login, offline=self._endpoint.server_dir is not None),
        )
        if self._spec.function:
            environment["WANDB_SUBMIT_FUNCTION"] = str(self._paths.function)
        return PreparedRun(run_id=run_id, argv=tuple(argv), environment=environment, log=self._paths.run_log(run_id))

    async def start(self, prepared: PreparedRun) -> Trial:
        """Starts a run that has been prepared.

        Raises:
            OSError: if it cannot be started, or its log not written.
            WandbSubmitError: if a module that was asked for cannot be imported.
        """
        if self._spec.ranks is not None:
            return await step.StepTrial.start_ranks(
                prepared.run_id,
                prepared.argv,
                env=prepared.environment,
                log=prepared.log,
                address=self._rank_0,
                spec=self._spec,
            )
        return await self._launcher.start(prepared.run_id, prepared.argv, env=prepared.environment, log=prepared.log)

    async def close(self) -> None:
        """Ends what runs are forked from; they have ended before."""
        await self._launcher.close()

    def _remedy(self, error: OSError, named: str | None) -> str:
        """What to do where a run's configuration cannot be written.

        Args:
            error: why it cannot be.
            named: what `WANDB_DIR` is, if it is set.
        """
        full = is_full(error)
        if self._spec.ranks is not None:
            return "make room there" if full else "submit again, from a folder that the nodes may write to"
        place = (
            f"WANDB_DIR, {named}" if named else f"{self._spec.workdir}, from where it was submitted without a WANDB_DIR"
        )
        words = (
            "make room there, or set WANDB_DIR to another folder"
            if full
            else "set WANDB_DIR to a folder that can be written to"
        )
        return f"wandb's files and the run's configuration go below {place}: {words}"

    def _argv(self, program: str | None, params: Mapping[str, object], files: commands.RunFiles) -> list[str]:
        if self._spec.function:
            return commands.function_argv(self._spec)
        return commands.build_argv(self._command, program, params, files)
