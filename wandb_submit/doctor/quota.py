"""The quota of a folder's file system, as `quota` or Lustre's `lfs` tells it."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.errors import RefusedError, UnavailableError
from wandb_submit.system import process

_TIMEOUT_S = 20.0  # an NFS server that does not answer
_GB = 1024**2  # in the KiB that both programs count in


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """How much of a file system one may use.

    Attributes:
        used_gb: what is used.
        most_gb: the limit, the soft one where there is one; `None` if there is none.
        files: how many files there are.
        most_files: how many there may be; `None` if that has no limit.
    """

    used_gb: float
    most_gb: float | None
    files: int
    most_files: int | None

    @property
    def free_gb(self) -> float | None:
        """What may still be written; `None` if that has no limit."""
        return None if self.most_gb is None else max(self.most_gb - self.used_gb, 0.0)

    @property
    def free_files(self) -> int | None:
        """How many more files there may be; `None` if that has no limit."""
        return None if self.most_files is None else max(self.most_files - self.files, 0)

    @property
    def words(self) -> str:
        """What is used of it: `18.2 of 20.0 GB, 150000 of 200000 files`."""
        sizes = "" if self.most_gb is None else f"{self.used_gb:.1f} of {self.most_gb:.1f} GB"
        files = "" if self.most_files is None else f"{self.files} of {self.most_files} files"
        return ", ".join(filter(None, (sizes, files)))


def of(folder: Path) -> Quota | None:
    """Asks for our quota where a folder is; `None` if there is none, or nobody here tells."""
    source, kind = _mount(folder)
    argv = ["lfs", "quota", "-q", "-u", getpass.getuser(), str(folder)] if kind == "lustre" else ["quota", "-w", "-p"]
    try:
        answer = process.run(argv, timeout_s=_TIMEOUT_S)
    except (RefusedError, UnavailableError):
        return None
    # quota's exit status is 1 for who is over one, too.
    return parse(answer.stdout, None if kind == "lustre" else source)


def parse(text: str, source: str | None) -> Quota | None:
    """Reads what `quota -w -p` or `lfs quota -q` printed.

    Both write lines of nine columns: the file system, then KiB used, soft limit, hard limit and grace, then the same
    of files; 0 is no limit, and `*` marks what is over one (quota(1), lfs-quota(1)).

    Args:
        text: what the program printed.
        source: what is mounted, to choose the line by; `None` is the first one.
    """
    for line in text.splitlines():
        fields = [field.rstrip("*") for field in line.split()]
        if len(fields) != 9 or not fields[1].isdecimal() or (source is not None and fields[0] != source):
            continue
        used, soft, hard, _, files, soft_files, hard_files, _ = (_number(field) for field in fields[1:])
        most, most_files = soft or hard, soft_files or hard_files
        if most or most_files:
            most_gb = most / _GB if most else None
            return Quota(used_gb=used / _GB, most_gb=most_gb, files=files, most_files=most_files or None)
    return None


def _number(field: str) -> int:
    return int(field) if field.isdecimal() else 0


def _mount(folder: Path) -> tuple[str, str]:
    """What is mounted where a folder is, and the kind of that file system."""
    found = ("", "", "")
    real = os.path.realpath(folder)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, place, kind = (word.encode().decode("unicode_escape") for word in line.split()[:3])
        if Path(real).is_relative_to(place) and len(place) >= len(found[1]):
            found = (source, place, kind)
    return found[0], found[2]
