"""A run that is several ranks: a job step that srun starts on all nodes of the task.

Every rank is looked after by a process of ours (`rank.py`) on its own node, which srun links to the agent:
what the agent writes to srun's standard input reaches all of them, and its end does, too, whatever it was that ended
the agent or srun. So no signal is sent to srun or by it, for there is no gentle one: on SIGTERM it kills all ranks at
once (seen on 22.05 and 24.11), wandb-core with its run's data included.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from wandb_submit.agent import gpus, slurm_job
from wandb_submit.agent.runs.oom import OUT_OF_MEMORY
from wandb_submit.agent.runs.trial import Trial, open_log
from wandb_submit.errors import WandbSubmitError
from wandb_submit.spec import Ranks, SubmissionSpec
from wandb_submit.store.logs import RANK_ENDED
from wandb_submit.system import process

# Of the agent's own step, and not for the next one: https://slurm.schedmd.com/srun.html#SECTION_INPUT-ENVIRONMENT-VARIABLES
_STEPS_OWN = ("SLURM_CPU_BIND", "SLURM_MEM_BIND", "SLURM_STEP", "SLURM_PROCID", "SLURM_DISTRIBUTION")
_SRUNS_TIME_S = 15.0  # for srun to end when all ranks have been killed
_LOOK_TIMEOUT_S = 120.0  # Slurm starts a step late where a node is busy


class StepTrial(Trial):
    """A run's ranks. Where one of them fails, the others are asked to end, and its exit status is the run's."""

    def __init__(
        self, run_id: str, srun: asyncio.subprocess.Process, log: int, port: socket.socket, grace_s: float
    ) -> None:
        self._srun = srun
        self._port = port
        self._grace_s = grace_s
        self._failed: int | None = None
        super().__init__(run_id, srun.pid, asyncio.ensure_future(self._until_all_have_ended(log)))

    @classmethod
    async def start_ranks(
        cls, run_id: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path, address: str, spec: SubmissionSpec
    ) -> StepTrial:
        """Starts a run on all ranks; the lines of its log begin with the rank that printed them.

        Args:
            run_id: the run.
            argv: what each rank executes.
            env: the environment of each, to which its place among the ranks is added.
            log: what is printed is appended to this file.
            address: where the other ranks find rank 0, which is on this node.
            spec: what was asked for; it has ranks.

        Raises:
            OSError: if srun cannot be started, or the log not written.
        """
        assert spec.ranks is not None  # noqa: S101 the caller looked
        descriptor, port = open_log(log), _free_port()
        own = {name: value for name, value in env.items() if not name.startswith(_STEPS_OWN)}
        world = {"MASTER_ADDR": address, "MASTER_PORT": str(port.getsockname()[1])}
        program = process.python_argv("wandb_submit.agent.runs.rank", *argv)
        cores = [f"--cpus-per-task={spec.cpus_per_task // spec.ranks.per_node}"] if spec.cpus_per_task else []
        try:
            srun = await process.start_talking(
                # Ranks that end badly are for us to notice: Slurm would kill the others at once.
                [*srun_argv(spec.ranks), *cores, "--label", "--kill-on-bad-exit=0", "--wait=0", *program],
                env={**own, **world},
                cwd=spec.workdir,
                output=descriptor,
            )
        except OSError:
            os.close(descriptor)
            port.close()
            raise
        return cls(run_id, srun, descriptor, port, spec.grace_s)

    def kill(self) -> None:
        """Lets every rank's process be killed with all that it has started; where srun does not end, it is killed."""
        if self._srun.stdin is not None:
            self._srun.stdin.close()
        if not self._ended.done():
            asyncio.get_running_loop().call_later(_SRUNS_TIME_S, self._kill_srun)

    def _kill_srun(self) -> None:
        if not self._ended.done():
            self._members.kill_group()  # Slurm then ends the step by itself, within a quarter of a minute

    def _ask_to_end(self) -> None:
        if self._srun.stdin is not None and not self._ended.done():
            with contextlib.suppress(ConnectionError, RuntimeError):  # it has just ended
                self._srun.stdin.write(b"stop\n")

    async def _until_all_have_ended(self, log: int) -> int:
        """Waits for srun, writes to the log what it says, and looks there for ranks that have failed."""
        assert self._srun.stderr is not None  # noqa: S101 it was asked for
        try:
            async for line in self._srun.stderr:
                os.write(log, line)
                if (end := RANK_ENDED.match(line.decode(errors="replace"))) and self._failed is None:
                    self._failed = int(end["status"])
                    self.out_of_memory = OUT_OF_MEMORY in end["why"]
                    if self.stop_reason is None:
                        self._ask_to_end()
                        asyncio.get_running_loop().call_later(self._grace_s, self.kill)
            status = await self._srun.wait()
        finally:
            os.close(log)
            self._port.close()
        return status if self._failed is None else self._failed


def srun_argv(ranks: Ranks) -> list[str]:
    """How srun starts so many ranks in this job, beside the agent and with all that the job has."""
    return [
        "srun",
        "--overlap",
        "--export=ALL",  # where a site lets sbatch export nothing, srun would do the same
        f"--nodes={ranks.nodes}",
        f"--ntasks={ranks.count}",
        f"--ntasks-per-node={ranks.per_node}",
        "--distribution=block",  # the first node has the first ranks
        "--mem=0",
    ]


def why_not(spec: SubmissionSpec) -> str | None:
    """Why the task's nodes must not get a run, as far as their GPUs go; `None` where all is well."""
    if spec.ranks is None or spec.ranks.nodes == 1:
        return gpus.why_not(gpus.wanted(spec))
    program = process.python_argv("wandb_submit.agent.node", str(gpus.wanted(spec)))
    env = {name: value for name, value in os.environ.items() if not name.startswith(_STEPS_OWN)}
    argv = [*srun_argv(Ranks(nodes=spec.ranks.nodes, per_node=1)), *program]
    try:
        answer = process.run(argv, timeout_s=_LOOK_TIMEOUT_S, env=env)
    except WandbSubmitError as error:
        return f"the task's nodes cannot be used: {error}"
    if answer.returncode != 0:
        return f"the task's nodes cannot be used: {answer.stderr.strip()[-400:]}"
    return "; ".join(answer.stdout.splitlines()) or None


def address(ranks: Ranks) -> str:
    """Where the ranks find rank 0: the address by which Slurm itself reaches this node, the first of the task."""
    return "127.0.0.1" if ranks.nodes == 1 else slurm_job.node_address()


def _free_port() -> socket.socket:
    """A port that nobody uses, kept for a run as long as this socket is open.

    Neither the kernel nor another task's agent gives it to anybody else. A run can listen on it all the same, as it
    asks for SO_REUSEADDR (torch does, and Python's asyncio and `socket.create_server`).
    """
    port = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port.bind(("", 0))
    return port
