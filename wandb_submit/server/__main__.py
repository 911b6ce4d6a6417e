"""`python -m wandb_submit.server`: the offline sweep server in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from pathlib import Path

from wandb_submit.errors import WandbSubmitError
from wandb_submit.server.requirements import check_installed
from wandb_submit.server.settings import Settings


def _settings(arguments: list[str]) -> Settings:
    defaults = Settings(data_dir=Path())
    parser = argparse.ArgumentParser(
        prog="python -m wandb_submit.server", description="Serve W&B's API for sweeps without W&B."
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder that holds everything")
    parser.add_argument("--host", default=defaults.host, help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="the port (default: that of last time, else any)")
    parser.add_argument("--seed", type=int, help="what searches start from (default: the folder's own)")
    parser.add_argument(
        "--crash-after",
        type=float,
        default=defaults.crash_after_s,
        metavar="S",
        help="a run that is silent for so many seconds has crashed (default: %(default)s)",
    )
    parser.add_argument(
        "--gone-grace",
        type=float,
        default=defaults.gone_grace_s,
        metavar="S",
        help="the same for a run that its agent no longer has (default: %(default)s)",
    )
    parser.add_argument(
        "--stop-grace",
        type=float,
        default=defaults.stop_grace_s,
        metavar="S",
        help="how long a run may take to obey a request to stop before its agent ends it (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    return Settings(
        data_dir=given.data.absolute(),
        host=given.host,
        port=given.port,
        seed=given.seed,
        crash_after_s=given.crash_after,
        gone_grace_s=given.gone_grace,
        stop_grace_s=given.stop_grace,
    )


def main(arguments: list[str] | None = None) -> int:
    """Serves until told to stop; returns the exit status."""
    settings = _settings(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # anybody can have it warn of what is not HTTP
    try:
        check_installed()
        from wandb_submit.server.serve import serve

        serve(settings)
    except WandbSubmitError as error:
        # The last line of the log: `lifecycle.start` shows it to whoever wanted a server.
        with contextlib.suppress(OSError):  # The log may be on the very disk that is full.
            os.write(sys.stderr.fileno(), f"error: {error}\n".encode())
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
