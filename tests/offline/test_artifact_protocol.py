"""Artifacts by raw requests: what clients seldom do, what they must not, and what the death of a server leaves."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from offline.clients import Protocol
from offline.conftest import Serve
from support import wait_until

from wandb_submit.server.control.lifecycle import ServerInfo
from wandb_submit.server.request import signed_urls

CREATE = """
mutation CreateArtifact($input: CreateArtifactInput!) {
  createArtifact(input: $input) { artifact { id state artifactSequence { latestArtifact { id } } } }
}
"""
FILES = """
mutation CreateArtifactFiles($input: CreateArtifactFilesInput!) {
  createArtifactFiles(input: $input) { files { edges { node { uploadUrl uploadHeaders artifact { id } } } } }
}
"""
MANIFEST = """
mutation CreateArtifactManifest($input: CreateArtifactManifestInput!) {
  createArtifactManifest(input: $input) { artifactManifest { id file { id uploadUrl uploadHeaders } } }
}
"""
COMMIT = "mutation C($id: ID!) { commitArtifact(input: {artifactID: $id}) { artifact { id digest versionIndex } } }"
DELETE = """
mutation D($id: ID!) { deleteArtifact(input: {artifactID: $id, deleteAliases: true}) { artifact { id } } }
"""
READ = """
query A($id: ID!, $first: Int, $after: String) {
  artifact(id: $id) {
    state size fileCount currentManifest { file { directUrl } } aliases { alias }
    files(first: $first, after: $after) {
      totalCount edges { node { name directUrl sizeBytes } } pageInfo { hasNextPage endCursor }
    }
  }
}
"""


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


@dataclass(frozen=True)
class Client:
    """wandb-core's way of uploading an artifact, step by step."""

    protocol: Protocol

    def create(self, name: str, digest: str, **more: object) -> dict:
        project = {"entityName": self.protocol.entity, "projectName": self.protocol.project}
        wanted = {"artifactCollectionName": name, "artifactTypeName": "t", "digest": digest, **more}
        deduplicated = {"enableDigestDeduplication": True}
        return self.protocol.data(CREATE, input={**project, **deduplicated, **wanted})["createArtifact"]["artifact"]

    def place(self, artifact: str, content: bytes, name: str = "f") -> str | None:
        spec = {"artifactID": artifact, "name": name, "md5": md5(content)}
        answer = self.protocol.data(FILES, input={"artifactFiles": [spec], "storageLayout": "V2"})
        (edge,) = answer["createArtifactFiles"]["files"]["edges"]
        assert edge["node"]["artifact"]["id"] == artifact
        return edge["node"]["uploadUrl"]

    def manifest(self, artifact: str, body: bytes | Mapping[str, bytes]) -> httpx.Response:
        if not isinstance(body, bytes):
            entries = {name: {"digest": md5(content), "size": len(content)} for name, content in body.items()}
            body = json.dumps({"version": 1, "storagePolicy": "p", "contents": entries}).encode()
        made = self.protocol.data(MANIFEST, input={"artifactID": artifact, "type": "FULL", "digest": ""})
        url = made["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
        return self.protocol.http.put(url, content=body)

    def log(self, name: str, files: Mapping[str, bytes]) -> str:
        artifact = self.create(name, digest=f"{name}-{sorted(files.items())!r}")["id"]
        for file, content in files.items():
            url = self.place(artifact, content, file)
            if url is not None:
                assert self.protocol.http.put(url, content=content).status_code == 200
        assert self.manifest(artifact, files).status_code == 200
        self.protocol.data(COMMIT, id=artifact)
        return artifact

    def read(self, artifact: str, **page: object) -> dict:
        return self.protocol.data(READ, id=artifact, **page)["artifact"]

    def refused(self, query: str, **variables: object) -> str:
        (error,) = self.protocol.post(query, **variables).json()["errors"]
        return error["message"]


@pytest.fixture
def client(protocol: Protocol) -> Client:
    return Client(protocol)


def contents(server: ServerInfo) -> set[str]:
    """The MD5s of the files that the server keeps."""
    return {file.name.partition("-")[0] for file in Path(server.data_dir, "artifacts").glob("*/*")}


def test_a_file_is_read_with_the_key_or_by_its_signed_address(
    client: Client, server: ServerInfo, monkeypatch: pytest.MonkeyPatch
):
    artifact = client.log("signed", {"a b/ü#?.txt": b"0123456789", "other": b"-"})
    edge, other = client.read(artifact)["files"]["edges"]
    url = edge["node"]["directUrl"]
    assert server.api_key not in url
    whole = httpx.get(url, trust_env=False)
    assert (whole.status_code, whole.content, whole.headers["content-length"]) == (200, b"0123456789", "10")
    part = httpx.get(url, headers={"Range": "bytes=2-4"}, trust_env=False)
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    path, _, query = url.partition("?")
    other_path = other["node"]["directUrl"].partition("?")[0]
    monkeypatch.setattr(signed_urls, "_LIFETIME_S", -1)
    late = signed_urls.signed_url(server.url, "/artifact/contents/x/y", server.api_key)
    for wrong in (path, f"{path}?{query[:-1]}", f"{other_path}?{query}", url.replace("expires=1", "expires=2"), late):
        assert httpx.get(wrong, trust_env=False).status_code == 401, wrong
    assert httpx.put(url, content=b"x", trust_env=False).status_code in (401, 405)
    assert client.protocol.http.get(path).content == b"0123456789"
    manifest = httpx.get(client.read(artifact)["currentManifest"]["file"]["directUrl"], trust_env=False).json()
    assert {name: entry["size"] for name, entry in manifest["contents"].items()} == {"a b/ü#?.txt": 10, "other": 1}


def test_what_arrives_broken_leaves_nothing(client: Client, server: ServerInfo):
    artifact = client.create("broken", "d")["id"]
    url = client.place(artifact, b"right")
    assert url is not None
    answer = client.protocol.http.put(url, content=b"wrong")
    assert answer.status_code == 422
    assert "changed while it was uploaded" in answer.text
    target = httpx.URL(url)
    with socket.create_connection((target.host, target.port)) as connection:
        key = client.protocol.http.build_request("PUT", url)
        credentials = base64.b64encode(f"api:{server.api_key}".encode()).decode()
        head = (
            f"PUT {key.url.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\nContent-Length: 5\r\n\r\n"
        )
        connection.sendall(head.encode() + b"rig")
    wait_until(lambda: not any(Path(server.data_dir, "uploads").iterdir()), what="what was cut short is gone")
    assert hashlib.md5(b"right", usedforsecurity=False).hexdigest() not in contents(server)
    assert client.protocol.http.put(f"/artifact/contents/999999/{'0' * 32}", content=b"").status_code == 404
    assert "manifest has not been uploaded" in client.refused(COMMIT, id=artifact)
    assert client.manifest(artifact, {"f": b"right"}).status_code == 200
    assert "its file f has not been uploaded" in client.refused(COMMIT, id=artifact)
    assert client.protocol.http.put(url, content=b"right").status_code == 200
    client.protocol.data(COMMIT, id=artifact)


def test_a_manifest_that_is_none_is_refused(client: Client):
    artifact = client.create("manifests", "d")["id"]
    entry = {"digest": md5(b""), "size": 0}
    for body in (
        b"",
        b"[]",
        b'{"version": 1}',
        *(
            json.dumps({"contents": {name: one}}).encode()
            for name, one in [
                ("../../up", entry),
                ("/etc/passwd", entry),
                ("a//b", entry),
                ("no digest", {"size": 1}),
                ("digest", {**entry, "digest": "short"}),
                ("size", {**entry, "size": -1}),
                ("entry", 7),
                ("ref", {**entry, "ref": 7}),
            ]
        ),
    ):
        assert client.manifest(artifact, body).status_code == 400, body
    assert "manifest has not been uploaded" in client.refused(COMMIT, id=artifact)


def test_asking_twice_changes_nothing(client: Client):
    first = client.create("twice", "d", clientID="c1")
    assert client.create("twice", "d", clientID="c1")["id"] == first["id"]
    client.manifest(first["id"], {})
    done = [client.protocol.data(COMMIT, id=first["id"])["commitArtifact"]["artifact"] for _ in range(2)]
    assert done[0] == done[1]
    assert done[0]["versionIndex"] == 0
    same = client.create("twice", "d", clientID="c2")
    assert (same["id"], same["state"]) == (first["id"], "COMMITTED")
    mapping = client.protocol.data('{ clientIDMapping(clientID: "c2") { serverID } }')
    assert mapping["clientIDMapping"]["serverID"] == first["id"]
    assert "holds artifacts of the type 't'" in client.refused(
        CREATE,
        input={
            "entityName": "local",
            "projectName": "tests",
            "artifactCollectionName": "twice",
            "artifactTypeName": "u",
            "digest": "d",
        },
    )
    assert "waits to be committed" in client.refused(MANIFEST, input={"artifactID": first["id"], "type": "FULL"})


def test_a_content_is_kept_once_and_as_long_as_somebody_has_it(client: Client, server: ServerInfo):
    shared, own = b"shared by three", b"only in one"
    one, two = client.log("one", {"x": shared, "y": own}), client.log("two", {"z": shared})
    waiting = client.create("three", "d")["id"]
    assert client.place(waiting, shared) is None
    names = {content: hashlib.md5(content, usedforsecurity=False).hexdigest() for content in (shared, own)}
    assert names[shared] in contents(server)
    client.protocol.data(DELETE, id=one)
    wait_until(lambda: names[own] not in contents(server), what="what only it had is gone")
    assert client.protocol.data(READ, id=one)["artifact"] is None
    client.protocol.data(DELETE, id=two)
    assert client.manifest(waiting, {"f": shared}).status_code == 200
    client.protocol.data(COMMIT, id=waiting)
    (file,) = client.read(waiting)["files"]["edges"]
    assert httpx.get(file["node"]["directUrl"], trust_env=False).content == shared
    client.protocol.data(DELETE, id=waiting)
    wait_until(lambda: names[shared] not in contents(server), what="nobody has it any more")
    # The same content anew is a file of its own, which the end of the old one cannot take away.
    again = client.log("one", {"x": shared})
    assert httpx.get(client.read(again)["files"]["edges"][0]["node"]["directUrl"], trust_env=False).content == shared


def test_a_large_manifest_is_listed_in_pages(client: Client):
    files = {f"{number:05}": b"" for number in range(2500)}
    artifact = client.log("large", files)
    names: list[str] = []
    after, more = None, True
    while more:
        page = client.read(artifact, first=1000, after=after)["files"]
        names.extend(edge["node"]["name"] for edge in page["edges"])
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    assert names == list(files)
    assert page["totalCount"] == client.read(artifact)["fileCount"] == len(files)
    manifest = httpx.get(client.read(artifact)["currentManifest"]["file"]["directUrl"], trust_env=False).json()
    assert list(manifest["contents"]) == list(files)


def test_what_lies_outside_is_refused_by_name(client: Client):
    assert "'upsertRegistry'" in client.refused("mutation { upsertRegistry(input: {}) { id } }")
    assert "is not the id of an Artifact" in client.refused('{ artifact(id: "nonsense") { id } }')
    assert client.protocol.http.get("/artifactsV2/default/local/tests/none/b/x.bin").status_code == 404
    assert client.protocol.http.get("/artifact/contents/..%2f..%2fapi_key/x").status_code == 404


def test_a_killed_server_goes_on_and_keeps_no_orphans(serve: Serve, tmp_path: Path):
    data = tmp_path / "data"
    info = serve(data)
    with Protocol(info) as protocol:
        client = Client(protocol)
        kept = client.log("kept", {"f": b"kept"})
        waiting = client.create("waiting", "d")["id"]
        url = client.place(waiting, b"waiting")
        assert url is not None
        assert protocol.http.put(url, content=b"waiting").status_code == 200
        abandoned = client.create("abandoned", "d")["id"]
        assert protocol.http.put(client.place(abandoned, b"abandoned") or "", content=b"abandoned").status_code == 200
    os.kill(info.pid, signal.SIGKILL)
    # Between its place on disk and the database's knowing of it, and in the middle of an upload.
    for orphan in (data / "artifacts/aa/orphan", data / "artifacts/00/orphan", data / "uploads/half"):
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(b"?")
    (data / "artifacts" / ".left-by-a-file-manager").touch()
    number = int(base64.b64decode(abandoned).decode().partition(":")[2])
    with closing(sqlite3.connect(data / "server.sqlite3")) as database, database:
        # Its client was last seen in 1970.
        database.execute("UPDATE artifacts SET updated_at = 0 WHERE id = ?", (number,))
    info = serve(data)
    assert not list(data.rglob("orphan"))
    assert not list((data / "uploads").glob("*"))
    with Protocol(info) as protocol:
        client = Client(protocol)
        assert protocol.data(READ, id=abandoned)["artifact"] is None
        wait_until(lambda: len(contents(info)) == 2, what="what was abandoned is gone")
        assert client.place(waiting, b"waiting") is None
        assert client.manifest(waiting, {"f": b"waiting"}).status_code == 200
        protocol.data(COMMIT, id=waiting)
        for artifact, content in ((kept, b"kept"), (waiting, b"waiting")):
            (file,) = client.read(artifact)["files"]["edges"]
            assert httpx.get(file["node"]["directUrl"], trust_env=False).content == content
