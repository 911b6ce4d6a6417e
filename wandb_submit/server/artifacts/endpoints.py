"""The HTTP endpoints that artifacts' files and manifests come and go by."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from wandb_submit.server.artifacts import contents, entries, manifest
from wandb_submit.server.request.context import ServerFacts
from wandb_submit.server.request.downloads import attachment
from wandb_submit.server.request.uploads import Upload, received
from wandb_submit.server.storage.database import Database
from wandb_submit.server.storage.refusals import Refusal

# So many entries at a time: the writer of the database is everybody's.
_CHUNK = 2000
_MD5 = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactEndpoints:
    """The endpoints of one server."""

    database: Database
    server: ServerFacts

    async def upload_content(self, request: Request) -> Response:
        """`PUT /artifact/contents/ARTIFACT/MD5`: a file that an artifact waits for."""
        artifact, content = request.path_params["artifact"], request.path_params["content"]
        if not await self.database.read(lambda tx: contents.is_expected(tx, artifact, content)):
            raise Refusal("no artifact waits for that file", status=404)
        data_dir = self.server.settings.data_dir
        async with received(request, data_dir, place=contents.folder(data_dir)) as upload:
            got = contents.checked_md5(upload.md5)
            if got != content:
                raise Refusal(
                    f"the file's MD5 is {got}, not {content}: it was changed while it was uploaded", status=422
                )
            await self._keep(upload, content)
        return Response()

    async def _keep(self, upload: Upload, content: str) -> None:
        file = contents.new_file(content)
        target = contents.folder(self.server.settings.data_dir) / file
        await asyncio.to_thread(upload.move_to, target, durable=True)
        if not await self.database.write(lambda tx: contents.add(tx, content, upload.size, file, time.time())):
            await asyncio.to_thread(target.unlink)

    async def download_content(self, request: Request) -> Response:
        """`GET /artifact/contents/MD5/NAME`, a file of an artifact."""
        return await self._content(request.path_params["content"], request.path_params["name"])

    async def download_by_layout(self, request: Request) -> Response:
        """`GET /artifactsV2/…/MD5/NAME`, an address that clients make up themselves; older ones leave out the name."""
        parts = request.path_params["place"].split("/")
        content = next((part for part in parts[-2:] if _MD5.fullmatch(part)), "")
        return await self._content(content, parts[-1])

    async def _content(self, content: str, name: str) -> Response:
        row = await self.database.read(
            lambda tx: tx.one("SELECT file FROM artifact_contents WHERE content = ?", (content,))
        )
        if row is None:
            raise Refusal(f"no artifact has a file with the MD5 {content[:40]!r}", status=404)
        return attachment(contents.folder(self.server.settings.data_dir) / row["file"], name.rpartition("/")[2])

    async def upload_manifest(self, request: Request) -> Response:
        """`PUT /artifact/manifests/NUMBER`."""
        number = request.path_params["number"]
        if not await self.database.write(lambda tx: manifest.begin(tx, number)):
            raise Refusal("that manifest does not belong to an artifact that waits to be committed", status=404)
        async with received(request, self.server.settings.data_dir, max_bytes=entries.MAX_BYTES) as upload:
            head, uploaded = await asyncio.to_thread(entries.read, upload.path)
        while chunk := await asyncio.to_thread(_next_of, uploaded):
            await self.database.write(functools.partial(entries.store, number=number, entries=chunk), long=True)
        await self.database.write(lambda tx: manifest.finish(tx, number, head), long=True)
        return Response()

    async def download_manifest(self, request: Request) -> Response:
        """`GET /artifact/manifests/NUMBER`."""
        number = request.path_params["number"]
        head = await self.database.read(lambda tx: manifest.head_of(tx, number))
        if head is None:
            raise Refusal("no artifact has that manifest", status=404)
        return StreamingResponse(self._manifest(number, head), media_type="application/json")

    async def _manifest(self, number: int, head: dict[str, object]) -> AsyncIterator[str]:
        yield json.dumps(head)[:-1] + (", " if head else "") + '"contents": {'
        path, separator = "", ""
        while rows := await self.database.read(
            functools.partial(entries.entries_after, number=number, path=path, limit=_CHUNK)
        ):
            yield separator + ", ".join(entries.as_json(rows))
            path, separator = rows[-1]["path"], ", "
        yield "}}"


def _next_of(uploaded: Iterator[entries.Entry]) -> list[entries.Entry]:
    return list(itertools.islice(uploaded, _CHUNK))
