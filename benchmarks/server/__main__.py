"""All that the offline server is to be: every benchmark of this folder in turn, and one table against the targets.

    python benchmarks/server            # some ten minutes; --all shows the figures without a target, too

Each part has a server and a data folder of its own. How long a start takes is measured on the folder with all the runs
that the first part has made, from the command to the first answer. The targets are for two cores with nothing else to
do: on a busy machine, look at the processor time per heartbeat and per row (`--all`), which hardly changes.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import heartbeats
import ingestion
import suggestions
from load import Figure, parser, percentile, report, served

_STARTS = 5


def beats_and_starts(folder: Path, agents: int, runs: int, seconds: float) -> list[Figure]:
    """Heartbeats with many runs there, the memory that they take, and starts on the folder that they are in."""
    with served(folder) as server:
        figures = asyncio.run(heartbeats.measure(server, agents, runs, 2000, seconds))
        figures.append(Figure(name=f"memory, {runs:,} runs", measured=server.alone_mb(), unit="MB", target=150))
        together = server.memory_mb()
    starts = []
    for _ in range(_STARTS):
        with served(folder) as server:
            starts.append(server.start_s)
    return [
        *figures,
        Figure(name=f"memory, {runs:,} runs, with the search process", measured=together, unit="MB"),
        Figure(name=f"start to the first answer, {runs:,} runs", measured=percentile(starts, 0.5), unit="s", target=1),
    ]


def measured(folder: Path, agents: int, runs: int, rows: int, seconds: float) -> list[Figure]:
    """All figures."""
    figures = beats_and_starts(folder / "heartbeats", agents, runs, seconds)
    with served(folder / "suggestions") as server:
        figures += asyncio.run(suggestions.measure(server, folder / "suggestions", runs, agents))
    with served(folder / "ingestion") as server:
        figures += asyncio.run(ingestion.measure(server, 64, rows, 50))
    return figures


def main() -> int:
    """Measures; returns the exit status."""
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--agents", type=int, default=1000)
    options.add_argument("--runs", type=int, default=10_000)
    options.add_argument("--rows", type=int, default=5000, help="of each of the 64 runs that log at once")
    options.add_argument("--seconds", type=float, default=10, help="how long heartbeats are measured, twice")
    options.add_argument("--all", action="store_true", help="print the figures that have no target, too")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        figures = measured(Path(folder), given.agents, given.runs, given.rows, given.seconds)
    shown = [one for one in figures if given.all or one.target is not None]
    return report(shown, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
