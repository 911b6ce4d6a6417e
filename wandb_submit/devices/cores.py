"""The cores that we may use, and how they hang together."""

from __future__ import annotations

import math
import os
import socket
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.devices.slurm_node import on_allocated_node

SYS = Path("/sys")
PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeQuota:
    """How much of the cores' time a cgroup allows, as a container's limit does.

    Attributes:
        cores: how many cores' worth.
        group: the cgroup, below its hierarchy's root.
    """

    cores: float
    group: Path


def usable_cores(environ: Mapping[str, str] | None = None, *, sys: Path = SYS, proc: Path = PROC) -> list[int]:
    """The cores that this process may run on, as its affinity (cgroup, Slurm, taskset) leaves them.

    In the order in which they are to be handed out: one hyperthread of each physical core, then the second ones.

    In a Slurm job no more than the job has, where the cluster does not bind jobs to their cores: which of them is
    then for us to choose, and differs between the jobs of a node. Likewise no more than there is time for in our
    cgroup: then they are spread over the machine, so that there are some near each GPU.
    """
    variables = os.environ if environ is None else environ
    cores = sorted(os.sched_getaffinity(0))
    own, job = variables.get("SLURM_CPUS_ON_NODE", ""), variables.get("SLURM_JOB_ID", "")
    if on_allocated_node(variables) and own.isdecimal() and job.isdecimal() and int(own) < len(cores):
        first = int(job) * int(own) % len(cores)
        cores = sorted((cores * 2)[first : first + max(int(own), 1)])
    quota = time_quota(sys=sys, proc=proc)
    if quota is not None and quota.cores < len(cores):
        container = f"{socket.gethostname()} {quota.group}"
        cores = spread(cores, math.ceil(quota.cores), first=zlib.crc32(container.encode()), sys=sys)
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


def spread(cores: Sequence[int], count: int, *, first: int = 0, sys: Path = SYS) -> list[int]:
    """So many of the cores, as far from each other as that goes.

    Args:
        cores: the cores, no fewer than `count`.
        count: how many.
        first: where to begin, whatever number that is.
        sys: where sysfs is.
    """
    row = side_by_side(cores, sys=sys)
    return [row[(first + place * len(row) // count) % len(row)] for place in range(count)]


def cores_near(pci_address: str, sys: Path) -> tuple[int, ...]:
    """The cores of the node that a device hangs at, all of them on a machine with one; none where nobody knows."""
    return tuple(_listed(sys / "bus/pci/devices" / pci_address / "local_cpulist")) if pci_address else ()


def time_quota(*, sys: Path = SYS, proc: Path = PROC) -> TimeQuota | None:
    """The tightest limit on the time of this process's cgroup and those that it is in; `None` if there is none.

    Inside a container a path may be the host's, of which the hierarchy's root is then our part.

    Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files, and for version 1
    https://docs.kernel.org/scheduler/sched-bwc.html#management.
    """
    return min(_quotas(sys / "fs/cgroup", proc), key=lambda quota: quota.cores, default=None)


def _quotas(sys: Path, proc: Path) -> Iterator[TimeQuota]:
    try:
        rows = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (row.split(":", 2) for row in rows):
        if controllers and "cpu" not in controllers.split(","):
            continue
        own = Path(path.lstrip("/"))
        for group in (own, *own.parents):
            folder = sys / ("cpu" if controllers else "") / group
            try:
                if controllers:  # version 1
                    quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
                else:
                    quota, period = (folder / "cpu.max").read_text().split()
                if quota != "max" and int(quota) > 0:
                    yield TimeQuota(cores=int(quota) / int(period), group=group)
            except (OSError, ValueError):  # the root has none
                continue


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
