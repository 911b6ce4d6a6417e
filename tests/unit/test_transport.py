"""Requests on their way to a server: proxies, certificates, and what is kept out of messages. All servers are real."""

from __future__ import annotations

import base64
import select
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wandb_submit.errors import ConfigError, RefusedError
from wandb_submit.wandb_api.http import NoAnswerError, Transport

KEY = "k3y" * 13
CERTIFICATE = Path(__file__).with_name("tls") / "certificate.pem"


@dataclass
class Listener:
    """A server that answers everything with `{}`, and what it was asked, on how many connections."""

    url: str = ""
    connections: int = 0
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def listening(*, tls: bool = False, patience_s: float | None = None) -> Iterator[Listener]:
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = patience_s

        def setup(self) -> None:
            super().setup()
            listener.connections += 1

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            listener.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_PUT = answer  # noqa: N815 http.server wants these names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_name("key.pem"))
            http.socket = context.wrap_socket(http.socket, server_side=True)
        listener.url = f"{'https' if tls else 'http'}://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield listener
        finally:
            http.shutdown()
            thread.join()


@contextmanager
def transport(url: str, *, offline: bool = False) -> Iterator[Transport]:
    made = Transport(url, KEY, offline=offline, timeout_s=10)
    yield made
    made.close()


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def test_the_servers_own_addresses_get_the_key_and_others_do_not() -> None:
    with listening() as server, transport(server.url) as way:
        assert way.post_json("/graphql", {"a": 1}).json() == {}
        assert way.request("PUT", f"{server.url}/bucket", iter([b"ab", b"c"]), {"Content-Length": "3"}).ok
    (own, headers, body), (other, others_headers, stored) = server.asked
    assert (own, headers["authorization"], body) == ("/graphql", basic(f"api:{KEY}"), b'{"a": 1}')
    assert (other, stored) == ("/bucket", b"abc")
    assert "authorization" not in others_headers
    assert "transfer-encoding" not in others_headers  # the storage of clouds takes no chunks


@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_is_used_again(tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with listening(tls=tls) as server, transport(server.url) as way:
        assert all(way.post_json("/graphql", {}).ok for _ in range(3))
        assert server.connections == 1


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    with listening(patience_s=0.1) as server, transport(server.url) as way:
        assert way.post_json("/graphql", {}).ok
        time.sleep(0.5)
        assert way.post_json("/graphql", {}).ok
        assert server.connections == 2


def test_threads_have_connections_of_their_own() -> None:
    with listening() as server, transport(server.url) as way, ThreadPoolExecutor(4) as threads:
        paths = [f"/{number}" for number in range(40)]
        assert all(answer.ok for answer in threads.map(lambda path: way.post_json(path, {}), paths))
        assert sorted(path for path, _, _ in server.asked) == sorted(paths)
        assert server.connections <= 4


def test_who_refuses_a_body_before_it_has_come_is_heard() -> None:
    def refuse() -> None:
        connection, _ = door.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            refused.set()
            while connection.recv(1 << 20):
                pass

    def pieces() -> Iterator[bytes]:
        yield b"x" * 1000
        assert refused.wait(10)
        yield b"x" * 1000

    refused = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        with transport(url) as way:
            answer = way.request("PUT", f"{url}/bucket", pieces(), {"Content-Length": "2000"})
        thread.join()
    assert (answer.status, answer.reason) == (413, "Too Large")


def test_half_an_answer_is_none() -> None:
    def hang_up() -> None:
        connection, _ = door.accept()
        with connection:
            while not connection.recv(1000).endswith(b"{}"):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        with transport(url) as way, pytest.raises(NoAnswerError, match="IncompleteRead"):
            way.post_json("/graphql", {})
        thread.join()


def test_an_address_may_hold_what_must_be_encoded() -> None:
    with listening() as server, transport(server.url) as way:
        assert way.request("PUT", f"{server.url}/a b/ü%20c?x=1&sign=a%2Fb#part", b"", {}).ok
    assert server.asked[0][0] == "/a%20b/%C3%BC%20c?x=1&sign=a%2Fb"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "WANDB_HTTP_PROXY"])
def test_a_proxy_is_asked_with_its_password(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as proxy, transport("http://wandb.example") as way:
        monkeypatch.setenv(name, proxy.url.replace("http://", "http://me:a%40b@"))
        assert way.post_json("/graphql", {}).ok
    path, headers, _ = proxy.asked[0]
    assert path == "http://wandb.example/graphql"
    assert headers["proxy-authorization"] == basic("me:a@b")


def test_a_proxy_may_be_named_without_its_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as proxy, transport("http://wandb.example") as way:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removeprefix("http://"))
        assert way.post_json("/graphql", {}).ok


def test_a_proxy_leads_to_a_server_that_has_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline())
            while self.rfile.readline() != b"\r\n":
                pass
            host, _, port = asked[0].split()[1].decode().partition(":")
            with socket.create_connection((host, int(port))) as onward:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                other = {self.connection: onward, onward: self.connection}
                while True:
                    for ready in select.select(list(other), [], [])[0]:
                        if not (piece := ready.recv(4096)):
                            return
                        other[ready].sendall(piece)

    with listening(tls=True) as server, socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("WANDB_HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
        with transport(server.url) as way, pytest.raises(NoAnswerError, match="CERTIFICATE_VERIFY_FAILED"):
            way.post_json("/graphql", {})
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        with transport(server.url) as way:
            assert way.post_json("/graphql", {}).ok
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        monkeypatch.setenv("WANDB_INSECURE_DISABLE_SSL", "true")
        with transport(server.url) as way:
            assert way.post_json("/graphql", {}).ok  # and no warning, which is an error here
        proxy.shutdown()
        thread.join()
    assert {line.split()[0] for line in asked} == {b"CONNECT"}


def test_a_proxy_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://127.0.0.1:1")
    with transport("http://wandb.example") as way, pytest.raises(ConfigError, match="check the proxy variables"):
        way.post_json("/graphql", {})


def test_this_machines_servers_are_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as server, transport(server.url) as way:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        assert way.post_json("/graphql", {}).ok


def test_a_proxy_that_runs_would_not_use_is_not_used_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as proxy, transport("http://wandb.invalid") as way:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        with pytest.raises(NoAnswerError, match="ALL_PROXY is set, but wandb and its runs do not read it: set HTTP_P"):
            way.post_json("/graphql", {})
    assert proxy.asked == []


def test_a_server_with_a_certificate_of_its_own_is_trusted_where_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening(tls=True) as server:
        with transport(server.url) as way, pytest.raises(NoAnswerError, match="CERTIFICATE_VERIFY_FAILED"):
            way.post_json("/graphql", {})
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        with transport(server.url) as way:
            assert way.post_json("/graphql", {}).ok


def test_any_certificate_is_taken_where_wandb_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_INSECURE_DISABLE_SSL", "true")
    with listening(tls=True) as server, transport(server.url) as way:
        assert way.post_json("/graphql", {}).ok  # and no warning, which is an error here


def test_certificates_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with transport("https://127.0.0.1:1") as way, pytest.raises(ConfigError, match=r"/nowhere/ca\.pem"):
        way.post_json("/graphql", {})


def test_an_address_that_is_none_is_refused() -> None:
    with transport("http://127.0.0.1:1") as way, pytest.raises(RefusedError, match="cannot be used"):
        way.request("PUT", "ftp://127.0.0.1/x", b"", {})


def test_a_signed_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with transport("http://127.0.0.1:1") as way, pytest.raises(NoAnswerError, match=r"^http://127\.0\.0\.1:1: ") as no:
        way.request("PUT", "http://me:pw@127.0.0.1:1/bucket?X-Signature=s3cret", b"", {})
    assert "s3cret" not in str(no.value)
    assert "pw" not in str(no.value)
