"""What `--nodes` and `--ranks-per-node` ask for, and what does not go together with them."""

from __future__ import annotations

from collections.abc import Iterator

from wandb_submit.spec import Ranks, SubmissionSpec
from wandb_submit.text import counted


def ranks(nodes: int | None, per_node: int | None) -> Ranks | None:
    """The ranks of a run; `None` where it is one process on one node, which may start others itself.

    As for srun, several nodes have one rank each unless something else is said.
    """
    if per_node is None and (nodes or 1) == 1:
        return None
    return Ranks(nodes=nodes or 1, per_node=per_node or 1)


def problems(spec: SubmissionSpec) -> Iterator[str]:
    """What keeps a run from being started as its ranks, a line each."""
    asked = spec.ranks
    if asked is None:
        return
    option = f"--nodes {asked.nodes}" if asked.nodes > 1 else f"--ranks-per-node {asked.per_node}"
    if spec.executor != "slurm":
        many = "one machine is one node" if asked.nodes > 1 else "Slurm's srun starts them, and here there is none"
        number = asked.per_node if asked.per_node > 1 else "gpu"
        yield (
            f"{option}: {many}; to train on several GPUs of this machine, let the sweep's `command` start the "
            f"processes: torchrun, --standalone, --nproc-per-node={number}"
        )
    if spec.agents_per_task > 1:
        yield f"{option}: a run has all of its task, and leaves nothing for --agents-per-task {spec.agents_per_task}"
    if spec.agent != "native":
        yield f"{option}: `wandb agent` starts one process per run; leave --agent out"
    if spec.preload is not None and spec.preload.required:
        yield f"{option}: srun starts the ranks, so that they cannot be forked from a process with --preload"
    for key in ("gpus", "gpus-per-node"):  # all nodes' GPUs, which the agent's step would ask for on one; ours
        if key in spec.sbatch:
            yield f"--sbatch {key}: say by --gpus-per-task how many GPUs each node has"
    if spec.gpus_per_task and spec.gpus_per_task % asked.per_node:
        yield (
            f"--gpus-per-task {spec.gpus_per_task}: these are the GPUs of each node, and cannot be shared evenly by "
            f"{asked.per_node} ranks: ask for {asked.per_node}, one per rank"
        )
    if spec.cpus_per_task and spec.cpus_per_task % asked.per_node:
        more = -(-spec.cpus_per_task // asked.per_node) * asked.per_node
        yield (
            f"--cpus-per-task {spec.cpus_per_task}: these are the cores of each node, and cannot be shared evenly by "
            f"{asked.per_node} ranks: ask for {more}"
        )


def words(spec: SubmissionSpec) -> list[str]:
    """What a person should know of how a task's nodes are divided."""
    if spec.ranks is None:
        return []
    shares = [
        counted(amount // spec.ranks.per_node, what)
        for amount, what in ((spec.gpus_per_task, "GPU"), (spec.cpus_per_task, "core"))
        if amount
    ]
    each = f"; a rank's share is {' and '.join(shares)}" if shares else ""
    nodes, per_node = spec.ranks.nodes, spec.ranks.per_node
    many = f"{nodes} nodes with {counted(per_node, 'rank')} on each" if nodes > 1 else "ranks"
    return [f"every run is {spec.ranks.count} processes, {many}{each}"]
