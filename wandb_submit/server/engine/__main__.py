"""`python -m wandb_submit.server.engine`: answers requests of the server, a line of JSON each, until they end."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path

from wandb_submit.server.engine.package import sentence
from wandb_submit.server.engine.work import Desk
from wandb_submit.system.kinship import die_with_parent

# A configuration that asks for more shall end this process, and not take the machine's memory.
_MAX_MEMORY = 4 * 1024**3


def main() -> int:
    """Answers until the server closes our input; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m wandb_submit.server.engine")
    parser.add_argument("--data", type=Path, required=True, help="the server's database")
    parser.add_argument("--parent", type=int, required=True, help="the server's process")
    given = parser.parse_args()
    die_with_parent(given.parent, signal.SIGKILL)
    # The server ends us; Ctrl-C in its terminal reaches both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY, _MAX_MEMORY))
    # The engine prints and logs about odd runs: that is not for our answers, nor, run by run, for the server's log.
    logging.basicConfig(level=logging.ERROR)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    desk = Desk(given.data)
    for line in sys.stdin:
        try:
            answer: dict[str, object] = {"answer": dataclasses.asdict(desk.answer(json.loads(line)))}
        except Exception as error:  # One request must not end the others'; the server tells of it.
            logging.getLogger(__name__).exception("a request failed")
            answer = {"error": sentence(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
