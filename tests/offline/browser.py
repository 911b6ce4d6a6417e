"""Headless Chromium for tests, steered over a pair of pipes by its DevTools protocol: no driver, no packages.

https://chromedevtools.github.io/devtools-protocol/ ; a message is JSON with a zero byte after it.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have a small /dev/shm
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# Fails rather than waits for ever; a busy machine of two cores takes its time.
_TIMEOUT_S = 60


class Browser:
    """One Chromium with one page.

    Attributes:
        problems: what the browser has complained about: errors of scripts, refused contents, failed loads.
        requests: the addresses of all that it has loaded.
    """

    def __init__(self, folder: Path, login: tuple[str, str]) -> None:
        program = shutil.which("chromium")
        assert program is not None, "Chromium is missing: apt-get install chromium (tests/testbed/browser does it)"
        self._login = login
        self._buffer = b""
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        read_by_it, self._to = os.pipe()
        self._from, written_by_it = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4, whatever ours are.
        moved = f"exec {read_by_it}<&- {written_by_it}>&-" if {read_by_it, written_by_it}.isdisjoint({3, 4}) else ""
        script = f'exec 3<&{read_by_it} 4>&{written_by_it}; {moved}\nexec "$@"'
        with (folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/bash", "-c", script, "bash", program, *_FLAGS, f"--user-data-dir={folder / 'chromium'}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(folder)},
                pass_fds=(read_by_it, written_by_it),
            )
        os.close(read_by_it)
        os.close(written_by_it)
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call("Fetch.enable", handleAuthRequests=True)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def show(self, width: int, *, dark: bool = False, media: str = "screen") -> None:
        """Sets how wide the window is, and what its user prefers."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def scripts(self, *, allowed: bool) -> None:
        """Whether pages may run scripts; the tests' own always run."""
        self._call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def open(self, url: str) -> None:
        """Loads a page, logging in if it is asked to, and waits until all of it is there."""
        self._loaded = False
        answer = self._call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        deadline = time.monotonic() + _TIMEOUT_S
        while not self._loaded:
            self._receive(deadline)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as an image, for people."""
        answer = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def origins(self) -> set[str]:
        """The servers that were asked for anything."""
        return {"{0.scheme}://{0.netloc}".format(urlsplit(url)) for url in self.requests}

    def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        number = self._send(method, **parameters)
        deadline = time.monotonic() + _TIMEOUT_S
        while number not in self._answers:
            self._receive(deadline)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _send(self, method: str, **parameters: object) -> int:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if getattr(self, "_session", None) is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._number

    def _receive(self, deadline: float) -> None:
        """Takes what has come, or waits for something."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"Chromium says nothing for {_TIMEOUT_S} s"
            piece = os.read(self._from, 1 << 20)
            assert piece, "Chromium has ended; its folder's chromium.log says why"
            self._buffer += piece
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        if "id" in message:
            self._answers[message["id"]] = message
        else:
            self._take(message["method"], message["params"])

    def _take(self, event: str, said: dict[str, Any]) -> None:
        match event:
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(said["request"]["url"])
            case "Fetch.requestPaused":
                self._send("Fetch.continueRequest", requestId=said["requestId"])
            case "Fetch.authRequired":
                user, password = self._login
                login = {"response": "ProvideCredentials", "username": user, "password": password}
                self._send("Fetch.continueWithAuth", requestId=said["requestId"], authChallengeResponse=login)
            case "Log.entryAdded":
                self.problems.append(f"{said['entry']['source']}: {said['entry']['text']} {said['entry'].get('url')}")
            case "Runtime.exceptionThrown":
                self.problems.append(str(said["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if said["type"] in ("error", "warning", "assert"):
                self.problems.append(str(said["args"]))
