"""How far a sync is: counted by its threads, shown by whoever wants to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class Progress:
    """What has been sent so far."""

    runs: int = 0
    files: int = 0
    lines: int = 0
    bytes_sent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, runs: int = 0, files: int = 0, lines: int = 0, bytes_sent: int = 0) -> None:
        """Counts."""
        with self._lock:
            self.runs += runs
            self.files += files
            self.lines += lines
            self.bytes_sent += bytes_sent

    def add_bytes(self, number: int) -> None:
        """Counts bytes of a file; a negative number takes back those that are sent again."""
        self.add(bytes_sent=number)
