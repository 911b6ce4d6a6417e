"""The cores that we may use, and how they hang together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from wandb_submit.devices.slurm_node import on_allocated_node

SYS = Path("/sys")


def usable_cores(environ: Mapping[str, str] | None = None, *, sys: Path = SYS) -> list[int]:
    """The cores that this process may run on, as its affinity (cgroup, Slurm, taskset) leaves them.

    In the order in which they are to be handed out: one hyperthread of each physical core, then the second ones.

    In a Slurm job no more than the job has, where the cluster does not bind jobs to their cores: which of them is
    then for us to choose, and differs between the jobs of a node.
    """
    variables = os.environ if environ is None else environ
    cores = sorted(os.sched_getaffinity(0))
    own, job = variables.get("SLURM_CPUS_ON_NODE", ""), variables.get("SLURM_JOB_ID", "")
    if on_allocated_node(variables) and own.isdecimal() and job.isdecimal() and int(own) < len(cores):
        first = int(job) * int(own) % len(cores)
        cores = sorted((cores * 2)[first : first + max(int(own), 1)])
    return physical_first(cores, sys=sys)


def physical_first(cores: Sequence[int], *, sys: Path = SYS) -> list[int]:
    """The cores in an order in which none shares a physical core with an earlier one, for as long as that goes."""
    seen: dict[int, int] = {}
    turns: list[tuple[int, int]] = []
    for core in sorted(cores):
        physical = min(_siblings(core, sys))
        turns.append((seen.setdefault(physical, 0), core))
        seen[physical] += 1
    return [core for _, core in sorted(turns)]


def side_by_side(cores: Sequence[int], *, sys: Path = SYS) -> list[int]:
    """The cores in an order in which neighbours are near each other: hyperthreads of a core, then cores of a node."""
    nodes = {core: place for place, node in enumerate(_nodes(sys)) for core in node}
    return sorted(cores, key=lambda core: (nodes.get(core, 0), min(_siblings(core, sys)), core))


def cores_near(pci_address: str, sys: Path) -> tuple[int, ...]:
    """The cores of the node that a device hangs at, all of them on a machine with one; none where nobody knows."""
    return tuple(_listed(sys / "bus/pci/devices" / pci_address / "local_cpulist")) if pci_address else ()


def time_quota(*, sys: Path = SYS, proc: Path = Path("/proc")) -> float | None:
    """How many cores' worth of time this process's cgroup allows, as a container's limit does; `None` is no limit.

    Of cgroup version 2 only (https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files).
    """
    try:
        rows = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((Path(row.removeprefix("0::/")) for row in rows if row.startswith("0::/")), None)
    if own is None:
        return None
    limits = [_quota(sys / "fs/cgroup" / group / "cpu.max") for group in (own, *own.parents)]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):  # the root has none
        return None


def _siblings(core: int, sys: Path) -> list[int]:
    return _listed(sys / f"devices/system/cpu/cpu{core}/topology/thread_siblings_list") or [core]


def _nodes(sys: Path) -> list[list[int]]:
    nodes = sorted((sys / "devices/system/node").glob("node[0-9]*"), key=lambda node: int(node.name[len("node") :]))
    return [_listed(node / "cpulist") for node in nodes]


def _listed(path: Path) -> list[int]:
    """The numbers of a list such as `0-3,8`, as the kernel writes them; none where there is no such file."""
    try:
        text = path.read_text().strip()
        ranges = [part.partition("-") for part in text.split(",") if part]
        return [number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)]
    except (OSError, ValueError):
        return []
