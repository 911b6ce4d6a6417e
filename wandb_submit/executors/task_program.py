"""What runs a submitted pickle: submitit's own program, without numpy.

Before it loads a pickle, submitit imports numpy, where that is there: 20 MB, and as long as a cluster's file system
takes, that an agent has no use for.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


def import_submission() -> None:
    """Imports `submitit.core.submission`."""
    with _without("numpy"):
        import submitit.core.submission  # noqa: F401


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

    submitit_main()
