"""The connection to the server that a sweep goes to: requests that are tried again while that can help.

wandb-core sends the same requests and repeats them for the same answers: no answer, 408, 425, 429 and 5xx.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from wandb_submit.errors import NotLoggedInError, RefusedError, UnavailableError, WandbSubmitError
from wandb_submit.wandb_api.answers import Answer, error_messages
from wandb_submit.wandb_api.credentials import Login
from wandb_submit.wandb_api.http import NoAnswerError, Transport

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 30.0
_ANSWER_S = 60.0
_STORED_S = 300.0  # the storage behind a server may think for long about a file of gigabytes
_PIECE = 256 * 1024


class StoppedError(WandbSubmitError):
    """The sync was told to stop; what is there stays there."""


class LostError(UnavailableError):
    """The server has not answered anything for so long that trying further runs makes no sense."""


class GoneError(RefusedError):
    """The server says that what the request is about is not there (404)."""


class StaleAddressError(RefusedError):
    """The storage refuses an upload's address: it may have expired, and a new one may do."""


class DoneAlreadyError(WandbSubmitError):
    """A request whose answer was lost has had its effect."""


class Connection:
    """Requests to one server; any thread may use it.

    Args:
        login: the server and its key.
        patience_s: how long a request is repeated before it counts as failed; may be changed.
        stop: ends all waiting when it is set.

    Attributes:
        trouble: why requests are being repeated; empty if they are not.
    """

    def __init__(self, login: Login, *, patience_s: float, stop: threading.Event) -> None:
        self.base_url = login.base_url
        self.patience_s = patience_s
        self.trouble = ""
        self._stop = stop
        self._heard_at = time.monotonic()
        self._not_before = 0.0
        self._server = Transport(login.base_url, login.api_key, offline=False, timeout_s=_ANSWER_S)
        # The addresses of uploads lead to a cloud's storage, which must not see our key.
        self._storage = Transport(login.base_url, login.api_key, offline=False, timeout_s=_STORED_S)

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()
        self._storage.close()

    def graphql(
        self, query: str, variables: Mapping[str, object], *, done: Callable[[], bool] | None = None
    ) -> Mapping[str, Any]:
        """Sends one operation and returns its `data`.

        Args:
            query: the operation.
            variables: its variables.
            done: for what must not happen twice: asked before the operation is sent again whether it has happened.

        Raises:
            DoneAlreadyError: if `done` says so.
            GoneError, RefusedError: if the server does not want it.
            UnavailableError: if it did not answer properly for as long as our patience lasts.
        """
        content = {"query": query, "variables": variables}
        response = self._repeated(lambda: self._server.post_json("/graphql", content), done)
        self._check(response)
        try:
            body = response.json()
        except ValueError as error:
            raise UnavailableError(
                f"{self.base_url} answers something that is not JSON: {response.text[:80]!r}"
            ) from error
        if not isinstance(body, dict) or body.get("errors") or not isinstance(body.get("data"), dict):
            raise RefusedError(f"{self.base_url} answers: {error_messages(body) or 'nothing'}"[:300])
        data: Mapping[str, Any] = body["data"]
        return data

    def post(self, path: str, body: Mapping[str, object]) -> None:
        """Sends JSON to one of the server's own addresses."""
        self._check(self._repeated(lambda: self._server.post_json(path, body)))

    def put(self, address: str, headers: Mapping[str, str], path: Path, on_bytes: Callable[[int], None]) -> None:
        """Uploads a file piece by piece.

        Args:
            address: where to, as the server told it.
            headers: what the server wants the storage to be told.
            path: the file.
            on_bytes: told of every piece that is sent, and with a negative number of those that must be sent again.

        Raises:
            OSError: if the file cannot be read.
        """
        url = urljoin(f"{self.base_url}/", address)
        response = self._repeated(lambda: self._put_once(url, headers, path, on_bytes))
        if response.status in (400, 401, 403, 404, 410):
            raise StaleAddressError(f"the upload was refused ({response.status} {response.complaint})")
        self._check(response)

    def _put_once(self, url: str, headers: Mapping[str, str], path: Path, on_bytes: Callable[[int], None]) -> Answer:
        sent = 0

        def pieces() -> Iterator[bytes]:
            nonlocal sent
            while piece := file.read(_PIECE):
                self._check_stop()
                yield piece
                sent += len(piece)
                on_bytes(len(piece))

        with path.open("rb") as file:
            # A length, since the storage of clouds does not take chunks.
            size = str(path.stat().st_size)
            try:
                response = self._storage.request("PUT", url, pieces(), {**headers, "Content-Length": size})
            except NoAnswerError:
                on_bytes(-sent)
                raise
        if not response.ok:
            on_bytes(-sent)
        return response

    def _repeated(self, send: Callable[[], Answer], done: Callable[[], bool] | None = None) -> Answer:
        """Sends until there is an answer that repeating would not change."""
        deadline, delay_s = time.monotonic() + self.patience_s, _FIRST_DELAY_S
        while True:
            self._sleep(self._not_before - time.monotonic())
            wait_s = delay_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads requests, guards nothing
            try:
                response = send()
            except NoAnswerError as error:
                problem = str(error)
            else:
                if not response.busy:
                    self._heard_at, self.trouble = time.monotonic(), ""
                    return response
                problem = f"{response.status} {response.complaint}"
                asked_s = response.retry_after_s
                if asked_s is not None:
                    # It is meant for all of our requests, and is the server's time, not ours.
                    wait_s = asked_s + wait_s
                    self._not_before = max(self._not_before, time.monotonic() + asked_s)
                    deadline += asked_s
                    self._heard_at = time.monotonic() + asked_s
            now = time.monotonic()
            if now + wait_s > deadline:
                silent_s = now - self._heard_at
                kind = LostError if silent_s >= 0.9 * self.patience_s else UnavailableError
                raise kind(f"{self.base_url} has not answered properly for {self.patience_s:.0f} s: {problem}"[:300])
            self.trouble = problem
            self._sleep(wait_s)
            if done is not None and done():
                raise DoneAlreadyError(problem)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._stop.wait(seconds)
        self._check_stop()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError("interrupted")

    def _check(self, response: Answer) -> None:
        status, reason = response.status, response.complaint
        if response.ok:
            return
        if status == 401:
            raise NotLoggedInError(f"{self.base_url} refuses our API key ({reason}): run `wandb login --relogin`")
        if status == 403:
            raise NotLoggedInError(
                f"{self.base_url} does not let us do this ({reason}): check --entity and your rights"
            )
        kind = GoneError if status == 404 else RefusedError
        raise kind(f"{self.base_url} answers {status} {reason}"[:300])
