"""Whether the kernel has killed something of this task because its memory was used up."""

from __future__ import annotations

from pathlib import Path

OUT_OF_MEMORY = "out of memory"  # how it is told

# In each the line `oom_kill N` counts the processes killed in the group, and with version 2 in those below it
# (https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files,
# https://docs.kernel.org/admin-guide/cgroup-v1/memory.html#oom-control).
_VERSION_1 = ("memory", "memory.oom_control")
_VERSION_2 = ("", "memory.events")


def oom_kills(root: Path = Path("/")) -> int:
    """How many processes the kernel has killed for want of memory in this process's control group.

    Slurm gives each job step such a group, with the memory limit of `--mem`. Without one, 0.

    Args:
        root: where `/proc` and `/sys` are.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 0
    return sum(_count(root / "sys/fs/cgroup", *line.split(":", 2)[1:]) for line in groups)


def _count(mounted: Path, controllers: str, group: str) -> int:
    """The count of one line of `/proc/self/cgroup`, which are `ID:CONTROLLERS:GROUP`; no controllers is version 2."""
    if controllers and "memory" not in controllers.split(","):
        return 0
    folder, name = _VERSION_1 if controllers else _VERSION_2
    try:
        lines = (mounted / folder / group.lstrip("/") / name).read_text().splitlines()
    except OSError:  # not mounted, or a group without a memory controller
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
