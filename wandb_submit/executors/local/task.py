"""What a local scheduler starts for one array task: takes its place on the machine, then runs submitit's job.

Its arguments are the scheduler's folder, the scheduler's process id, and the cores to run on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
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

    # Before it loads a pickle, submitit imports numpy, and httpx its command line with click and rich, where they are
    # there: 0.2 s and 20 MB that an agent has no use for.
    with _without("numpy", "click"):
        import httpx  # noqa: F401 - for the agent
        from submitit.core.submission import process_job
    try:
        process_job(str(files.jobs))
    finally:
        if array.teardown:
            run_in_shell(array.teardown)


@contextlib.contextmanager
def _without(*modules: str) -> Iterator[None]:
    """Lets modules that are not imported yet be missing for a while; who needs them imports them afterwards."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # `None` means that there is no such module
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


if __name__ == "__main__":
    main(sys.argv[1:])
