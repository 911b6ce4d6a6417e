"""The server's edge: too much, too slow, cut short, from the wrong place, or without the key."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from offline.clients import START_RUN, Protocol
from offline.conftest import Serve
from offline.in_process import KEY, App, running
from support import wait_until

from wandb_submit.server.control.lifecycle import ServerInfo
from wandb_submit.server.request import bodies, connections
from wandb_submit.server.request.auth import authorization

JSON = {"Content-Type": "application/json"}
STREAM = "/files/local/tests/run/file_stream"
FILE = "/storage/local/tests/run/file.bin"
VIEWER = b'{"query": "{ viewer { id } }"}'
MB = 1024 * 1024


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with running(tmp_path / "data") as app:
        app.graphql(START_RUN, name="run", project="tests", host="h")
        yield app


def request(info: ServerInfo, head: str, body: bytes = b"", *, key: str | None = None) -> bytes:
    """A request as bytes, with the key or another one."""
    first, *more = head.split("\n")
    lines = [f"{first} HTTP/1.1", "Host: x", f"Authorization: {authorization(key or info.api_key)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


def connect(info: ServerInfo) -> socket.socket:
    host, _, port = info.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def answer(connection: socket.socket) -> bytes:
    """What the server says until it has no more to say, or until the answer's head is there."""
    said = b""
    while b"\r\n\r\n" not in said:
        piece = connection.recv(65536)
        if not piece:
            break
        said += piece
    return said


def is_over(connection: socket.socket) -> bool:
    """Waits for the server to end a connection."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize(("path", "limit"), [("/graphql", bodies.QUERY.max_bytes), (STREAM, bodies.STREAM.max_bytes)])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(app: App, path: str, limit: int):
    announced = {**JSON, "Content-Length": str(limit + 1)}
    assert app.send("POST", path, b"", headers=announced).status == 413
    # Without a length, it is refused as soon as it is too much; the rest would be a client that has gone.
    piece = b" " * (4 * MB)
    assert app.send("POST", path, [piece] * (limit // len(piece) + 1), headers=JSON, truncated=True).status == 413
    # Just as large as it may be.
    body = json.dumps({"query": "{ viewer { id } }", "variables": {"x": "y" * 20 * MB}}).encode()
    assert app.send("POST", path, body, headers=JSON).status == 200


@pytest.mark.parametrize("path", ["/graphql", STREAM])
def test_gzip_is_unpacked_up_to_a_limit(app: App, path: str):
    packed = {**JSON, "Content-Encoding": "gzip"}
    whole = gzip.compress(VIEWER)
    assert app.send("POST", path, whole, headers=packed).status == 200
    assert app.send("POST", path, [whole[:9], whole[9:]], headers=packed).status == 200
    assert app.send("POST", path, whole[:-9], headers=packed).status == 400
    assert app.send("POST", path, VIEWER, headers=packed).status == 400
    assert app.send("POST", path, VIEWER, headers={**JSON, "Content-Encoding": "br"}).status == 415
    bomb = gzip.compress(b" " * 80 * MB, 9)
    assert len(bomb) < 100_000
    assert app.send("POST", path, bomb, headers=packed).status == 413
    twice = gzip.compress(bomb, 9)
    assert app.send("POST", path, twice, headers=packed).status == 400


def test_a_client_that_dies_in_mid_request_leaves_nothing(app: App):
    piece = b"x" * MB
    for method, path, body in [
        ("PUT", FILE, [piece] * 3),
        ("POST", STREAM, [b'{"complete":']),
        ("POST", "/graphql", [b"{"]),
    ]:
        assert app.send(method, path, body, headers=JSON, truncated=True).status == 499
    assert app.send("GET", FILE).status == 404
    assert list((app.folder / "uploads").iterdir()) == []
    assert not (app.folder / "files").exists()


def test_files_come_and_go_as_they_are(app: App):
    content = bytes(range(256)) * 10
    assert app.send("PUT", FILE, content, headers={"Content-Encoding": "gzip"}).status == 415
    assert app.send("PUT", FILE, content, headers={"Content-Range": "bytes 0-9/20"}).status == 400
    assert app.send("PUT", FILE, [content[:7], content[7:]]).status == 200
    assert app.send("GET", FILE).body == content
    part = app.send("GET", FILE, headers={"Range": "bytes=100-199"})
    assert (part.status, part.body) == (206, content[100:200])
    assert app.send("GET", FILE, headers={"Range": "bytes=9999-"}).status == 416


@pytest.mark.parametrize(
    "name",
    [
        *("..%2f..%2fserver.sqlite3", "../../../../server.sqlite3", "%2e%2e/%2e%2e/api_key", "..\\..\\api_key"),
        *("%2fetc%2fpasswd", "/etc/passwd", "a%00b", "a//b", "./a", "a/", "a/../../b", "%5c%5cserver%5cshare"),
        *("x" * 300, "a/" * 600, "a%0ab", "%ed%a0%80" + "/..", "..%c0%af..%c0%afapi_key/.."),
    ],
)
def test_no_name_leads_out_of_a_runs_folder(app: App, name: str):
    for method in ("PUT", "GET"):
        assert app.send(method, f"/storage/local/tests/run/{name}", b"x").status in (400, 404)
    assert not (app.folder / "files").exists()
    # Nor do those of entities, projects and runs.
    for path in (f"/storage/{name}/tests/run/f", f"/storage/local/{name}/run/f", f"/storage/local/tests/{name}/f"):
        assert app.send("GET", path).status in (400, 404)
        assert app.send("PUT", path, b"x").status in (400, 404)


BROWSER = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"}


@pytest.mark.parametrize(
    "headers",
    [
        BROWSER,
        {**BROWSER, "Sec-Fetch-Site": "same-site"},
        {**BROWSER, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://test:81"},
    ],
)
def test_pages_of_other_sites_may_do_nothing(app: App, headers: dict[str, str]):
    assert app.send("POST", "/graphql", VIEWER, headers={**JSON, **headers}).status == 403
    assert app.send("PUT", FILE, b"x", headers=headers).status == 403
    if headers.get("Sec-Fetch-Mode") != "navigate":
        assert app.send("GET", FILE, headers=headers).status == 403


def test_our_own_pages_links_and_people_may(app: App):
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://test"}
    for headers in (own, {"Sec-Fetch-Site": "none"}, {"Origin": "http://test"}, {}):
        assert app.send("POST", "/graphql", VIEWER, headers={**JSON, **headers}).status == 200
    link = {**BROWSER, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert app.send("GET", "/healthz", headers=link).status == 200
    # In a frame, the other site's page would be around it.
    assert app.send("GET", "/healthz", headers={**link, "Sec-Fetch-Dest": "iframe"}).status == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert app.send("POST", "/graphql", VIEWER, headers={"Content-Type": kind}).status == 415


def test_an_uploaded_page_is_a_file_to_save(app: App):
    page = "/storage/local/tests/run/media/a%22b.html"
    assert app.send("PUT", page, b"<script>alert(1)</script>").status == 200
    headers = app.send("GET", page).headers
    assert headers["content-disposition"].startswith("attachment; ")
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    for target in (page, "/healthz", "/nowhere", "/graphql"):
        headers = app.send("GET", target).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "same-origin"
        assert "default-src 'none'" in headers["content-security-policy"]


EVIL = """'"; DROP TABLE runs; -- <script>alert("x")</script> {{7*7}} ${x} %s %00 \\ \u202e \x00 \x7f 😀 \ufffe"""


def test_every_field_comes_back_as_it_was_sent(app: App):
    fields = {name: f"{name} {EVIL}" for name in ("displayName", "notes", "groupName", "jobType", "description")}
    config = json.dumps({EVIL: {"value": EVIL}})
    summary = json.dumps({EVIL: EVIL})
    declared = ", ".join(f"${name}: String" for name in fields)
    used = ", ".join(f"{name}: ${name}" for name in fields)
    app.graphql(
        f"mutation($tags: [String!], $config: JSONString, $summary: JSONString, {declared}) {{"
        f' upsertBucket(input: {{name: "odd", modelName: "tests", host: "h", tags: $tags, config: $config,'
        f" summaryMetrics: $summary, {used}}}) {{ bucket {{ id }} }} }}",
        **fields,
        tags=[EVIL, "b"],
        config=config,
        summary=summary,
    )
    row = json.dumps({EVIL: EVIL, "_step": 0})
    body = {
        "files": {
            "wandb-history.jsonl": {"offset": 0, "content": [row]},
            "output.log": {"offset": 0, "content": [EVIL]},
        }
    }
    assert app.send("POST", "/files/local/tests/odd/file_stream", json.dumps(body).encode()).status == 200
    run = app.graphql(
        '{ project(name: "tests", entityName: "local") { run(name: "odd") { displayName notes group jobType description'
        " tags config summaryMetrics history(samples: 10) } } }"
    )["project"]["run"]
    assert {"displayName": run["displayName"], "notes": run["notes"], "description": run["description"]} == {
        name: fields[name] for name in ("displayName", "notes", "description")
    }
    assert (run["group"], run["jobType"]) == (fields["groupName"], fields["jobType"])
    assert sorted(run["tags"]) == sorted([EVIL, "b"])
    assert json.loads(run["config"])[EVIL]["value"] == EVIL
    assert json.loads(run["summaryMetrics"])[EVIL] == EVIL
    assert [json.loads(line) for line in run["history"]] == [json.loads(row)]
    # Nothing is found by what would be found if any of it were taken for SQL.
    assert app.graphql("query($n: String!) { project(name: $n) { id } }", n="x' OR '1'='1")["project"] is None


@pytest.mark.parametrize(
    "document",
    [
        "{ " + "a{" * 5000 + "b" + "}" * 5000 + " }",
        "query { ...F } fragment F on Query { ...F }",
        "query { ...F } fragment F on Query { ...G } fragment G on Query { ...F }",
        "{ " + " ".join(f"a{n}: viewer {{ id }}" for n in range(3000)) + " }",
        "{ viewer(x: " + "[" * 3000 + "]" * 3000 + ") { id } }",
        "{ viewer { id " + "id " * 40_000 + "} }",
    ],
    ids=["deep", "cycle", "circle", "aliases", "nested list", "long"],
)
def test_a_request_that_would_be_endless_work_is_refused(app: App, document: str, caplog: pytest.LogCaptureFixture):
    body = json.dumps({"query": document}).encode()
    refused = app.send("POST", "/graphql", body, headers=JSON)
    assert refused.status == 400
    assert "mistake" not in refused.json()["errors"][0]["message"]
    assert caplog.records == []


def test_a_key_in_the_address_opens_nothing_and_is_never_written_down(server: ServerInfo):
    key = server.api_key
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for query in (f"?key={key}", f"?api_key={key}", f"?access_token={key}"):
            assert client.post(f"/graphql{query}", content=VIEWER, headers=JSON).status_code == 401
    host = server.url.removeprefix("http://")
    for target in (f"http://api:{key}@{host}/graphql", f"/{key}", f"/graphql/{key}", f"//api:{key}@{host}/graphql"):
        with connect(server) as connection:
            connection.sendall(request(server, f"POST {target}\nContent-Length: 0", key="wrong" * 8))
            assert answer(connection).split()[1] in (b"400", b"401", b"404", b"405")
    assert key not in (server.data_dir / "server.log").read_text()


NOT_HTTP = [
    *(b"\x16\x03\x01\x02\x00\x01" * 20, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\n\r\n"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
]


def test_what_is_not_http_is_refused(server: ServerInfo):
    for said in NOT_HTTP:
        with connect(server) as connection:
            connection.sendall(said)
            assert answer(connection).split()[1] in (b"400", b"401", b"404", b"505")
    log = (server.data_dir / "server.log").read_text()
    assert "Traceback" not in log
    assert "Invalid HTTP" not in log


def test_an_upload_that_is_cut_short_leaves_nothing(server: ServerInfo, protocol: Protocol):
    protocol.start_run("cut-short")
    path = f"/storage/{protocol.entity}/{protocol.project}/cut-short/big.bin"
    with connect(server) as connection:
        connection.sendall(request(server, f"PUT {path}\nContent-Length: {5 * MB}", b"x" * 3 * MB))
        uploads = server.data_dir / "uploads"
        wait_until(lambda: uploads.is_dir() and list(uploads.iterdir()), what="the upload has begun")
    wait_until(lambda: not list(uploads.iterdir()), what="the upload is forgotten")
    assert protocol.http.get(path).status_code == 404


def test_slow_strangers_do_not_lock_out_those_with_the_key(serve: Serve, tmp_path: Path):
    info = serve(tmp_path / "data")
    strangers = connections._MAX_STRANGERS
    with ExitStack() as stack, Protocol(info) as client:
        assert client.post("{ viewer { id } }").status_code == 200
        kept = stack.enter_context(connect(info))
        kept.sendall(request(info, "POST /graphql\nContent-Length: 30", VIEWER))
        assert b" 200 " in answer(kept)
        beginnings = (b"", b"GET / HTTP/1.1\r\nX-", request(info, "PUT /x\nContent-Length: 9", key="w"))
        opened = []
        for number in range(2 * strangers):
            connection = stack.enter_context(connect(info))
            connection.sendall(beginnings[number % 3])
            opened.append(connection)
        # All of the others' connections are as good as before, and new ones are served.
        assert client.post("{ viewer { id } }").status_code == 200
        kept.sendall(request(info, "POST /graphql\nContent-Length: 30", VIEWER))
        assert b" 200 " in answer(kept)
        with Protocol(info) as newcomer:
            assert newcomer.post("{ viewer { id } }").status_code == 200
        # The first strangers had to go.
        for connection in opened[: strangers // 2]:
            assert is_over(connection)
    assert "Traceback" not in (info.data_dir / "server.log").read_text()


def test_a_stranger_who_talks_without_end_is_cut_off(server: ServerInfo):
    with connect(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            connection.sendall(b"X-More: 1\r\n" * 10_000_000)


def test_a_body_that_stops_coming_is_not_waited_for_forever(app: App, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "_SILENCE_S", 0.05)
    assert app.send("POST", STREAM, [b"{"], headers=JSON, stalls=True).status == 408
    assert app.send("PUT", FILE, [b"x" * MB], stalls=True).status == 408
    assert list((app.folder / "uploads").iterdir()) == []


def test_a_wrong_key_is_told_so(app: App):
    for header in ("", "Basic", f"Bearer {KEY}", authorization(KEY + "x"), authorization(KEY[:-1]), authorization("")):
        refused = app.send("POST", "/graphql", VIEWER, headers={**JSON, "Authorization": header})
        assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Basic realm="wandb-submit"')


class Door(asyncio.Protocol):
    """Stands in for the HTTP server's protocol: a client that says `key` has shown it."""

    def __init__(self, *, app_state: dict[str, connections.Connection]) -> None:
        self.connection = app_state["connection"]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data == b"key":
            self.connection.heard_out()
            self.connection.trust()
            self.transport.write(b"ok")


def test_a_stranger_gets_no_place_for_long_and_one_with_the_key_keeps_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(connections, "_STRANGER_S", 0.2)

    async def play() -> None:
        gated = connections.behind(connections.Gate(3), Door)
        server = await asyncio.get_running_loop().create_server(lambda: gated(app_state={}), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        silent, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionResetError):
            assert await silent.read() == b""
        writer.close()

        kept = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            kept.append((reader, writer))
            writer.write(b"key")
            assert await reader.readexactly(2) == b"ok"
        late, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await late.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        await asyncio.sleep(0.5)  # none of those with the key has been cut off meanwhile
        assert not any(reader.at_eof() for reader, _ in kept)
        for _, writer in kept:
            writer.close()
            await writer.wait_closed()
        server.close()

    asyncio.run(play())
    assert caplog.records == []
