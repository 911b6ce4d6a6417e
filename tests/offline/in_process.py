"""The offline server's application in this process: requests reach it as its HTTP server would hand them over."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.applications import Starlette

from wandb_submit.server.control.settings import Settings
from wandb_submit.server.request.auth import authorization
from wandb_submit.server.request.context import ServerFacts
from wandb_submit.server.request.heard import Heard
from wandb_submit.server.service.app import make_app
from wandb_submit.server.storage.clock import Clock
from wandb_submit.server.storage.database import Database
from wandb_submit.server.sweeps.background import BackgroundSearch

KEY = "k" * 40


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the application answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class App:
    """A running application, and the folder that it keeps everything in."""

    folder: Path
    application: Starlette
    portal: BlockingPortal

    def send(
        self,
        method: str,
        target: str,
        content: bytes | list[bytes] = b"",
        *,
        headers: Mapping[str, str] | None = None,
        truncated: bool = False,
        stalls: bool = False,
    ) -> Answer:
        """Sends one request with the key, whatever its target is.

        Args:
            method: the HTTP method.
            target: the path with its query, as it would stand in the request's first line.
            content: the body, or the pieces that it comes in.
            headers: more headers, or others.
            truncated: whether the client vanishes after the last piece.
            stalls: whether it stays then, and sends no more.
        """
        return self.portal.call(self._send, method, target, content, dict(headers or {}), truncated, stalls)

    async def _send(
        self,
        method: str,
        target: str,
        content: bytes | list[bytes],
        headers: dict[str, str],
        truncated: bool,
        stalls: bool,
    ) -> Answer:
        raw_path, _, query = target.partition("?")
        sent = {"authorization": authorization(KEY), "host": "test", **{k.lower(): v for k, v in headers.items()}}
        pieces = [content] if isinstance(content, bytes) else content
        inbox = [
            {"type": "http.request", "body": piece, "more_body": truncated or stalls or number < len(pieces)}
            for number, piece in enumerate(pieces, 1)
        ]
        outbox: list[Any] = []

        async def receive() -> Any:
            if not inbox and not truncated:
                await anyio.sleep_forever()
            return inbox.pop(0) if inbox else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            outbox.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw_path),
            "raw_path": raw_path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()],
            "server": ("test", 80),
            "client": ("127.0.0.1", 1),
            "state": {},
        }
        await self.application(scope, receive, send)
        return Answer(
            status=outbox[0]["status"],
            headers={name.decode().lower(): value.decode("latin-1") for name, value in outbox[0]["headers"]},
            body=b"".join(message.get("body", b"") for message in outbox[1:]),
        )

    def graphql(self, query: str, **variables: object) -> Any:
        """The data of one GraphQL request, which must succeed."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        answer = self.send("POST", "/graphql", body, headers={"Content-Type": "application/json"})
        assert answer.status == 200, answer.body
        assert "errors" not in answer.json(), answer.body
        return answer.json()["data"]


@contextmanager
def running(folder: Path) -> Iterator[App]:
    """An application on a new folder."""
    folder.mkdir()
    database = Database(folder / "server.sqlite3")
    search = BackgroundSearch(database, 7)
    clock = Clock()
    facts = ServerFacts(
        settings=Settings(data_dir=folder),
        key=KEY,
        process=secrets.token_hex(8),
        clock=clock,
        heard=Heard(clock),
        search=search,
    )
    application = make_app(database, facts, search)
    try:
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(application.router.lifespan_context(application)),
        ):
            yield App(folder=folder, application=application, portal=portal)
    finally:
        database.close()
