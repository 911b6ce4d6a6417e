"""One rank of a run: tells its program which it is, and ends it when the agent says so or is gone.

srun starts it on every node of a task, and hands to all of them what the agent says on their standard input: a line
asks the program to end, the end of input kills it. Signals do neither. Slurm sends them to every step of a job, and the
agent gets them, too: it alone knows what they mean.

What the program prints goes to standard output. On standard error is one line if it fails, for the agent.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from pathlib import Path

from wandb_submit.agent.runs.members import Members
from wandb_submit.agent.runs.oom import OUT_OF_MEMORY, oom_kills
from wandb_submit.agent.shares import Share
from wandb_submit.system import process

_AGENT, _OUTPUT = 0, 1  # standard input and output
_ASK_AGAIN_S = 0.2
_NOT_STARTED = 127  # as a shell says it
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main() -> int:
    """Runs the program that the command line names; returns its exit status, 128 and more for a signal's number."""
    woken, on_signal = os.pipe()
    for descriptor in (woken, on_signal):
        os.set_blocking(descriptor, False)
    for number in (*_IGNORED, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # unlike "ignore", a handler is not handed on to the program
    signal.set_wakeup_fd(on_signal, warn_on_full_buffer=False)
    kills_before = oom_kills()
    try:
        program = process.start_in_group(sys.argv[1:], env=environment(), cwd=Path.cwd(), output=_OUTPUT)
    except OSError as error:
        _tell(_NOT_STARTED, f"{sys.argv[1]}: {error.strerror}: ")
        return _NOT_STARTED
    members = Members(program.pid, os.environ.get("WANDB_RUN_ID", ""), rank=("SLURM_STEP_ID", "SLURM_PROCID"))
    inputs, asking = [_AGENT, woken], False
    while program.poll() is None:
        ready, _, _ = select.select(inputs, [], [], _ASK_AGAIN_S if asking else None)
        if woken in ready:
            os.read(woken, 4096)
        if _AGENT in ready:
            asking = bool(os.read(_AGENT, 4096))
            if not asking:
                members.kill()
                inputs = [woken]
        asking = asking and not members.ask_to_end()
    members.kill()  # whatever it has left
    if program.returncode:
        _tell(program.returncode, f"{OUT_OF_MEMORY}: " if oom_kills() > kills_before else "")
    return program.returncode if program.returncode >= 0 else 128 - program.returncode


def environment() -> dict[str, str]:
    """The program's environment: its place among the ranks by the names that torch uses, and threads for its cores.

    https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables has the names; NODE_RANK is what
    Lightning and others call GROUP_RANK.
    """
    cores = sorted(os.sched_getaffinity(0))
    own = int(os.environ.get("SLURM_CPUS_PER_TASK") or len(cores))
    ranks, node = os.environ["SLURM_NTASKS"], os.environ["SLURM_NODEID"]
    place = {
        "RANK": os.environ["SLURM_PROCID"],
        "WORLD_SIZE": ranks,
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(int(ranks) // int(os.environ["SLURM_NNODES"])),
        "NODE_RANK": node,
        "GROUP_RANK": node,
    }
    return {**Share(gpus=None, cores=tuple(cores[:own])).environment(os.environ), **place}


def _tell(status: int, why: str = "") -> None:
    rank = f"rank {os.environ['SLURM_PROCID']} on {socket.gethostname()}"
    line = f"wandb-submit: {rank}: {why}ended with status {status}\n"
    try:
        os.write(2, line.encode())
    except OSError:  # the agent has gone
        return


if __name__ == "__main__":
    sys.exit(main())
