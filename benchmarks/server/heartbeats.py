"""How many heartbeats of agents the server answers, and how soon.

1,000 agents, each on a connection of its own and each with a run that is alive, beside 9,000 runs that are done; all
of it made through the API first. Then two measurements:

- at a given rate: every agent sends a heartbeat each RATE-th of a thousand seconds, evenly spread, whether or not
  earlier ones are answered; an answer's delay counts from the moment that its heartbeat was due;
- as many as it takes: a few agents at a time, each sending again as soon as it is answered.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from load import (
    HEARTBEAT,
    Connection,
    Figure,
    Server,
    begin_run,
    connections,
    create_agent,
    create_sweep,
    parser,
    percentile,
    processor_s,
    report,
    served,
)

SWEEP = {
    "method": "random",
    "program": "train.py",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"lr": {"min": 0.0001, "max": 0.1}, "layers": {"values": [1, 2, 3, 4]}},
}


# How many requests are under way at a time where as many as possible are to be answered.
_LANES = 50


async def prepare(opened: list[Connection], agents: int, runs: int) -> list[bytes]:
    """Makes the sweep, the agents and the runs; returns each agent's heartbeat."""
    sweep = await create_sweep(opened[0], SWEEP)
    left = iter(range(agents))
    beats: list[bytes] = []

    async def lane(connection: Connection) -> None:
        for _ in left:
            agent = await create_agent(connection, sweep)
            for _ in range(runs // agents - 1):
                run = await begin_run(connection, sweep, agent)
                summary = json.dumps({"loss": 0.5, "_step": 10, "_runtime": 12.5})
                await connection.stream(
                    run, files={"wandb-summary.json": {"offset": 0, "content": [summary]}}, complete=True, exitcode=0
                )
            run = await begin_run(connection, sweep, agent)
            variables = {"id": agent, "metrics": "{}", "runState": json.dumps({run: True})}
            beats.append(
                connection.packed("/graphql", json.dumps({"query": HEARTBEAT, "variables": variables}).encode())
            )

    await asyncio.gather(*map(lane, opened))
    return beats


async def at_rate(opened: list[Connection], beats: list[bytes], rate: float, seconds: float) -> list[float]:
    """Sends heartbeats at a rate; returns the delays of the answers."""
    delays: list[float] = []
    period = len(opened) / rate
    clock = time.monotonic
    start = clock() + 0.1

    async def agent(number: int) -> None:
        due = start + number / rate
        while due < start + seconds:
            await asyncio.sleep(max(0.0, due - clock()))
            await opened[number].send(beats[number])
            delays.append(clock() - due)
            due += period

    await asyncio.gather(*(agent(number) for number in range(len(opened))))
    return delays


async def at_most(opened: list[Connection], beats: list[bytes], at_once: int, seconds: float) -> float:
    """Sends heartbeats as fast as they are answered; returns how many per second."""
    end = time.monotonic() + seconds
    done = 0

    async def lane(first: int) -> None:
        nonlocal done
        number = first
        while time.monotonic() < end:
            await opened[number].send(beats[number])
            done += 1
            number = (number + at_once) % len(opened)

    began = time.monotonic()
    await asyncio.gather(*(lane(first) for first in range(at_once)))
    return done / (time.monotonic() - began)


async def measure(server: Server, agents: int, runs: int, rate: float, seconds: float) -> list[Figure]:
    async with connections(server, _LANES) as opened:
        began = time.monotonic()
        beats = await prepare(opened, agents, runs)
        prepared_s = time.monotonic() - began
    async with connections(server, agents) as opened:
        # Whoever has a run is heard with it once before: that first time the server takes it down.
        await at_rate(opened, beats, rate, agents / rate)
        delays = await at_rate(opened, beats, rate, seconds)
        used = processor_s(server.pid)
        most = await at_most(opened, beats, min(_LANES, agents), seconds)
        used = processor_s(server.pid) - used
    return [
        Figure(
            name=f"heartbeats answered, {agents:,} agents, {runs:,} runs",
            measured=most,
            unit="/s",
            target=2000,
            more=True,
        ),
        Figure(
            name=f"99th percentile of the delay at {rate:g}/s",
            measured=percentile(delays, 0.99) * 1000,
            unit="ms",
            target=50,
        ),
        Figure(name=f"median of the delay at {rate:g}/s", measured=percentile(delays, 0.5) * 1000, unit="ms"),
        Figure(name=f"longest delay at {rate:g}/s", measured=max(delays) * 1000, unit="ms"),
        Figure(name="processor time per heartbeat", measured=used / (most * seconds) * 1e6, unit="us"),
        Figure(name=f"making the {runs:,} runs", measured=runs / prepared_s, unit="/s"),
    ]


def main() -> int:
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--agents", type=int, default=1000)
    options.add_argument("--runs", type=int, default=10_000)
    options.add_argument("--rate", type=float, default=2000, help="heartbeats per second for the delays")
    options.add_argument("--seconds", type=float, default=10, help="how long each measurement lasts")
    given = options.parse_args()
    with served() as server:
        figures = asyncio.run(measure(server, given.agents, given.runs, given.rate, given.seconds))
    return report(figures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
