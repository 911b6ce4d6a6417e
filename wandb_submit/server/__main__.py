"""`python -m wandb_submit.server`: the offline sweep server in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from pathlib import Path

from wandb_submit.errors import WandbSubmitError
from wandb_submit.server.control import log
from wandb_submit.server.control.requirements import check_installed
from wandb_submit.server.control.settings import Choices, Settings


def _parse(arguments: list[str]) -> tuple[Path, Choices]:
    defaults = Settings(data_dir=Path())
    parser = argparse.ArgumentParser(
        prog="python -m wandb_submit.server",
        description="Serve W&B's API for sweeps without W&B. The folder remembers what is asked for: "
        "an option that is not given stays as it was last time.",
    )
    seconds = functools.partial(parser.add_argument, type=float, metavar="S")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder that holds everything")
    parser.add_argument("--host", help=f"the address to listen on (default: {defaults.host})")
    parser.add_argument("--host-if-new", help="the same, for a folder that remembers none")
    parser.add_argument("--port", type=int, help="the port (default: that of last time, else any)")
    parser.add_argument("--seed", type=int, help="what searches start from (default: the folder's own)")
    seconds("--crash-after", help=f"a run that is silent for so long has crashed (default: {defaults.crash_after_s})")
    seconds("--gone-grace", help=f"the same for a run that its agent no longer has (default: {defaults.gone_grace_s})")
    seconds(
        "--stop-grace",
        help=f"how long a run may take to obey a request to stop before its agent ends it "
        f"(default: {defaults.stop_grace_s})",
    )
    given = parser.parse_args(arguments)
    return given.data.absolute(), Choices(
        host=given.host,
        host_if_new=given.host_if_new,
        port=given.port,
        seed=given.seed,
        crash_after_s=given.crash_after,
        gone_grace_s=given.gone_grace,
        stop_grace_s=given.stop_grace,
    )


def main(arguments: list[str] | None = None) -> int:
    """Serves until told to stop; returns the exit status."""
    try:
        data_dir, choices = _parse(sys.argv[1:] if arguments is None else arguments)
        formatter = log.set_up(data_dir)
        check_installed()
        from wandb_submit.server.service.serve import serve

        serve(data_dir, choices, formatter.hide)
    except WandbSubmitError as error:
        # The last line of the log: `lifecycle.start` shows it to whoever wanted a server.
        with contextlib.suppress(OSError):  # The log may be on the very disk that is full.
            os.write(sys.stderr.fileno(), f"error: {error}\n".encode())
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
