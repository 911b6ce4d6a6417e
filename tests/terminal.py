"""A terminal with `wandb-submit` in it."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import termios

from support import Shell, wait_until

_CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class Terminal:
    """A terminal with a shell in it, whose foreground job is `wandb-submit`."""

    def __init__(self, shell: Shell, *arguments: str, columns: int = 80, lines: int = 24, **env: str) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

        inherited = {name: value for name, value in shell.env.items() if name not in ("COLUMNS", "LINES")}

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            ["wandb-submit", *arguments],
            cwd=shell.folder,
            env={**inherited, "TERM": "xterm", **env},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=take_terminal,
        )
        os.close(slave)
        self.shown = b""
        os.set_blocking(self._master, False)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def shows(self, words: str) -> bool:
        """Whether it has shown these words so far."""
        try:
            while data := os.read(self._master, 1 << 16):
                self.shown += data
        except (BlockingIOError, OSError):
            pass
        return words.encode() in self.shown

    def has_ended(self) -> bool:
        """Whether its job has; one that nobody reads what it shows would wait for ever."""
        self.shows("")
        return self.process.poll() is not None

    def lines(self) -> list[str]:
        """All that its job has shown when it has ended, without colours."""
        wait_until(self.has_ended, what="the job has ended")
        self.shows("")
        self.close()
        return _CODES.sub("", self.shown.decode()).replace("\r", "").splitlines()

    def close(self) -> None:
        """The window is closed: the kernel hangs up on what runs in it."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
