"""What a local scheduler starts for one array task: takes its place on the machine, then runs submitit's job.

Its arguments are the scheduler's folder, the scheduler's process id, and the cores to run on.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from wandb_submit.executors.local.state import ArrayFile, SchedulerFiles
from wandb_submit.process import die_with_parent, run_in_shell, take_environment_of_shell


def main(argv: list[str]) -> None:
    """Binds this process to its cores and to its scheduler's life, and runs the pickled task."""
    folder, scheduler, cores = argv
    # The scheduler blocks the signals that it waits for, and a blocked signal stays blocked through exec.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with_parent(int(scheduler), signal.SIGTERM)
    if cores:
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    files = SchedulerFiles(Path(folder))
    array = ArrayFile.load(files)
    if array.setup and (status := take_environment_of_shell(array.setup)):
        sys.exit(status)

    # submitit imports numpy, where there is one, before it loads a pickle: 0.1 s and 15 MB that an agent has no use
    # for. Who needs numpy imports it all the same.
    without = {} if "numpy" in sys.modules else {"numpy": None}
    sys.modules.update(without)  # type: ignore[arg-type]  # `None` means that there is no such module
    from submitit.core.submission import process_job

    for name in without:
        del sys.modules[name]
    try:
        process_job(str(files.jobs))
    finally:
        if array.teardown:
            run_in_shell(array.teardown)


if __name__ == "__main__":
    main(sys.argv[1:])
