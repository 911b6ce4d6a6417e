"""Data-parallel training on several nodes with nothing but Python: what a rank is told, and how it finds the others.

With torch it is shorter: examples/torchrun/train.py runs here as it is, since `init_process_group` reads the same
variables.
"""

import argparse
import os
import random
import socket
import time

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--steps", type=int, default=20)
args = parser.parse_args()

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))


def connect():
    """Rank 0 listens on the address that all ranks know; the others connect to it."""
    if rank == 0:
        with socket.create_server(("", place[1]), backlog=world) as server:
            return [server.accept()[0].makefile("rw") for _ in range(world - 1)]
    for _ in range(600):
        try:
            return [socket.create_connection(place).makefile("rw")]
        except ConnectionRefusedError:
            time.sleep(0.1)  # rank 0 is not there yet
    raise TimeoutError(f"rank 0 does not answer on {place}")


def say(peer, number):
    peer.write(f"{number!r}\n")
    peer.flush()


def mean(number):
    """The mean of all ranks' numbers; every rank gets it."""
    if rank != 0:
        say(peers[0], number)
        return float(peers[0].readline())
    whole = (number + sum(float(peer.readline()) for peer in peers)) / world
    for peer in peers:
        say(peer, whole)
    return whole


peers = connect()
run = None
if rank == 0:  # one rank logs; the others have the same weight, and nothing to tell
    import wandb

    run = wandb.init(config={"world": world})

data = random.Random(rank)  # noqa: S311 - no secrets
weight = 0.0
for _ in range(args.steps):
    xs = [data.uniform(-1, 1) for _ in range(100)]
    loss = mean(sum((3 * x - weight * x) ** 2 for x in xs) / len(xs))
    weight -= args.lr * mean(sum(-2 * x * (3 * x - weight * x) for x in xs) / len(xs))
    if run:
        run.log({"loss": loss, "weight": weight})

print(f"rank {rank} of {world} on {socket.gethostname()}: weight {weight:.6f}")
if run:
    run.finish()
