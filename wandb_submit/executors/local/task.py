"""What a local scheduler starts for one array task: takes its place on the machine, then runs submitit's job.

Its arguments are submitit's folder, the scheduler's process id, and the cores to run on.
"""

from __future__ import annotations

import os
import signal
import sys

from wandb_submit.process import die_with_parent


def main(argv: list[str]) -> None:
    """Binds this process to its cores and to its scheduler's life, and runs the pickled task."""
    folder, scheduler, cores = argv
    # The scheduler blocks the signals that it waits for, and a blocked signal stays blocked through exec.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with_parent(int(scheduler), signal.SIGTERM)
    if cores:
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])

    from submitit.core.submission import process_job

    process_job(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
