"""What runs a submitted pickle: submitit's own program, without numpy.

Before it loads a pickle, submitit imports numpy, where that is there: 20 MB, and as long as a cluster's file system
takes, that an agent has no use for.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from wandb_submit.errors import WandbSubmitError

_CHATTER = "Submitted job triggered an exception"  # which submitit raises again


def import_submission() -> None:
    """Imports `submitit.core.submission`."""
    with _without("numpy"):
        import submitit.core.submission  # noqa: F401


def without_chatter(work: Callable[[], object]) -> int:
    """Calls submitit without what it says of itself in a task's log, and tells an error of ours in one line.

    Returns:
        The exit status; what else the work raises is the caller's.
    """
    logger = logging.getLogger("submitit")
    logger.setLevel(logging.ERROR)
    logger.addFilter(lambda record: record.msg != _CHATTER)
    for handler in logger.handlers[
        1:
    ]:  # the first of the two writes to standard error, the other one what it does, too
        logger.removeHandler(handler)
    try:
        work()
    except WandbSubmitError as error:
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {error}\n")
        return 1
    return 0


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Lets a module that is not imported yet be missing for a while; who needs it imports it afterwards."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # means that there is no such module
    try:
        yield
    finally:
        del sys.modules[module]


if __name__ == "__main__":
    import_submission()
    from submitit.core.submission import submitit_main

    sys.exit(without_chatter(submitit_main))
