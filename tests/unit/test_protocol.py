"""The agent's three questions, and the commands' greeting, to a real HTTP server that answers whatever a test wants."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest

from wandb_submit.agent.protocol import (
    BusyError,
    Command,
    SweepClient,
    SweepEndedError,
    SweepGoneError,
    SweepInfo,
)
from wandb_submit.agent.shares import Share
from wandb_submit.errors import NotLoggedInError, RefusedError, UnavailableError, WandbSubmitError
from wandb_submit.spec import Endpoint, SweepRef
from wandb_submit.wandb_api import sweeps

KEY = "k3y" * 13
_T = TypeVar("_T")


@dataclass
class Server:
    """What it answers next, and what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def answers(self, body: object, status: int = 200, **headers: str) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            state.keys.append(base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode())
            self.send_response(state.status)
            for name, value in {"Content-Length": str(len(state.body)), **state.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def ref(server: Server) -> SweepRef:
    return SweepRef(entity="me", project="vision", id="s1", base_url=server.url)


def ask(endpoint: Endpoint, question: Callable[[SweepClient], Coroutine[Any, Any, _T]]) -> _T:
    async def run() -> _T:
        client = SweepClient(endpoint, timeout_s=5)
        try:
            return await question(client)
        finally:
            await client.close()

    return asyncio.run(run())


def heartbeat(server: Server, *running: str) -> list[Command]:
    return ask(Endpoint(base_url=server.url), lambda client: client.heartbeat("a1", running))


def register(server: Server) -> str:
    return ask(Endpoint(base_url=server.url), lambda client: client.register(ref(server), "gpu1"))


def sweep(server: Server) -> SweepInfo:
    return ask(Endpoint(base_url=server.url), lambda client: client.sweep(ref(server)))


def stop_requested(server: Server) -> bool:
    return ask(Endpoint(base_url=server.url), lambda client: client.stop_requested(ref(server), "r1"))


def orders(*commands: object) -> dict[str, Any]:
    return {"data": {"agentHeartbeat": {"agent": {"id": "a1"}, "commands": json.dumps(commands)}}}


def a_sweep(config: object) -> dict[str, Any]:
    return {"data": {"project": {"sweep": {"id": "x", "name": "s1", "state": "RUNNING", "config": config}}}}


def test_a_heartbeat_tells_the_living_runs_with_the_key(server: Server) -> None:
    server.answers(orders())
    assert heartbeat(server, "r1", "r2") == []
    variables = server.asked[0]["variables"]
    assert (variables["id"], variables["metrics"]) == ("a1", "{}")
    assert json.loads(variables["runState"]) == {"r1": True, "r2": True}
    assert server.keys == [f"api:{KEY}"]


def test_orders_are_read_with_their_parameters(server: Server) -> None:
    run = {"type": "run", "run_id": "r1", "program": "train.py", "args": {"lr": {"value": 0.1}}, "id": "x", "logs": []}
    server.answers(orders(run, {"type": "stop", "run_id": "r2"}, {"type": "exit"}))
    assert heartbeat(server) == [
        Command(type="run", run_id="r1", program="train.py", args={"lr": {"value": 0.1}}),
        Command(type="stop", run_id="r2"),
        Command(type="exit"),
    ]


def test_null_fields_of_an_order_are_fields_that_are_not_there(server: Server) -> None:
    server.answers(orders({"type": "run", "run_id": "r1", "program": None, "args": None}))
    assert heartbeat(server) == [Command(type="run", run_id="r1")]


@pytest.mark.parametrize("commands", ["", "null", "[]"])
def test_no_orders_are_no_orders(commands: str, server: Server) -> None:
    server.answers({"data": {"agentHeartbeat": {"agent": {"id": "a1"}, "commands": commands}}})
    assert heartbeat(server) == []


def test_registering_gives_the_id_of_the_agent(server: Server) -> None:
    server.answers({"data": {"createAgent": {"agent": {"id": "a1"}}}})
    assert register(server) == "a1"
    expected = {"host": "gpu1", "projectName": "vision", "entityName": "me", "sweep": "s1"}
    assert server.asked[0]["variables"] == expected


@pytest.mark.parametrize(
    ("config", "command"),
    [
        ("command: [a, 3, '${args}']\nmethod: grid\n", ("a", 3, "${args}")),
        ("method: grid\n", ()),
        ("command: python train.py\n", ()),
        ("command:\n", ()),
        ("", ()),
        (None, ()),
    ],
)
def test_a_sweeps_command_is_read_from_its_configuration(
    config: str | None, command: tuple[object, ...], server: Server
) -> None:
    server.answers(a_sweep(config))
    assert sweep(server) == SweepInfo(state="RUNNING", command=command)


@pytest.mark.parametrize(
    ("project", "expected"),
    [
        ({"sweep": {"state": "RUNNING"}, "run": {"stopped": True, "shouldStop": False}}, True),
        ({"sweep": {"state": "RUNNING"}, "run": {"stopped": None, "shouldStop": True}}, True),
        ({"sweep": {"state": "CANCELED"}, "run": {"stopped": False, "shouldStop": False}}, True),
        ({"sweep": {"state": "FINISHED"}, "run": {"stopped": False, "shouldStop": False}}, False),
        ({"sweep": None, "run": None}, False),
        (None, False),
    ],
)
def test_the_server_says_whether_it_was_asked_to_stop_a_run(
    project: dict[str, Any] | None, expected: bool, server: Server
) -> None:
    server.answers({"data": {"project": project}})
    assert stop_requested(server) is expected
    assert server.asked[0]["variables"] == {"entity": "me", "project": "vision", "sweep": "s1", "run": "r1"}


@pytest.mark.parametrize("body", [{"data": {"project": {"run": "r1"}}}, {"errors": [{"message": "no such field"}]}])
def test_a_server_that_does_not_know_of_stops_says_so(body: dict[str, Any], server: Server) -> None:
    server.answers(body)
    with pytest.raises(UnavailableError):
        stop_requested(server)


@pytest.mark.parametrize("data", [{"project": None}, {"project": {"sweep": None}}, {}])
def test_a_sweep_that_is_not_there_is_gone(data: dict[str, Any], server: Server) -> None:
    server.answers({"data": data})
    with pytest.raises(SweepGoneError, match="me/vision/s1"):
        sweep(server)


def test_an_agent_that_is_not_known_any_more_is_gone(server: Server) -> None:
    server.answers({"errors": [{"message": "agent not found"}]}, 404)
    with pytest.raises(SweepGoneError, match="agent not found"):
        heartbeat(server)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"errors": [{"message": "Sweep me/vision/s1 is not running"}]}),
        (400, {"error": "Sweep s1 is not running"}),
        (409, {"errors": ["Sweep s1 is not running"]}),
        (200, {"errors": [{"message": "Sweep s1 is not running"}], "data": None}),
    ],
)
def test_an_ended_sweep_is_told_by_its_words(status: int, body: dict[str, Any], server: Server) -> None:
    server.answers(body, status)
    with pytest.raises(SweepEndedError, match="is not running"):
        register(server)


def test_another_refusal_is_a_refusal(server: Server) -> None:
    server.answers({"errors": [{"message": "invalid sweep"}, {"message": "second"}]}, 400)
    with pytest.raises(RefusedError, match="invalid sweep; second") as caught:
        register(server)
    assert not caught.value.transient
    assert not isinstance(caught.value, SweepEndedError)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_as_such_and_not_shown(status: int, server: Server) -> None:
    server.answers({"errors": [{"message": "permission denied"}]}, status)
    with pytest.raises(NotLoggedInError, match="wandb login --relogin") as caught:
        heartbeat(server)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "header", "retry_after_s"),
    [(429, "7", 7.0), (429, None, None), (503, "30", 30.0), (500, None, None), (408, None, None), (502, "soon", None)],
)
def test_a_busy_server_may_say_how_long_to_wait(
    status: int, header: str | None, retry_after_s: float | None, server: Server
) -> None:
    server.answers({"error": "rate limited"}, status, **({"Retry_After": header} if header else {}))
    with pytest.raises(BusyError, match=f"{status} rate limited") as caught:
        heartbeat(server)
    assert caught.value.retry_after_s == retry_after_s
    assert caught.value.transient


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>proxy</html>", id="a page"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe", id="bytes"),
        pytest.param([1], id="a list"),
        pytest.param({"data": None}, id="null data"),
        pytest.param({"data": []}, id="data that is a list"),
        pytest.param({"errors": [{"message": "internal"}], "data": None}, id="an error"),
        pytest.param({"errors": [None]}, id="an error that is null"),
        pytest.param({"errors": 5}, id="an error that is a number"),
        pytest.param({"data": {"agentHeartbeat": None, "createAgent": None, "project": 5}}, id="null fields"),
        pytest.param({"data": {"agentHeartbeat": {"commands": "{"}, "project": {"sweep": "x"}}}, id="torn orders"),
        pytest.param({"data": {"agentHeartbeat": {"commands": "[5]"}, "createAgent": {}, "project": []}}, id="numbers"),
        pytest.param(a_sweep("a: [1"), id="a configuration that is no YAML"),
        pytest.param(a_sweep("[a]"), id="a configuration that is a list"),
    ],
)
@pytest.mark.parametrize("question", [heartbeat, register, sweep])
def test_an_answer_that_makes_no_sense_is_one_of_our_errors_never_another(
    question: Callable[[Server], object], body: object, server: Server
) -> None:
    server.answers(body)
    try:
        question(server)
    except WandbSubmitError:
        return
    pytest.fail("it was taken for an answer")


def test_a_long_page_is_cut_short_in_the_message(server: Server) -> None:
    server.answers(b"x" * 10_000, 500)
    with pytest.raises(BusyError) as caught:
        heartbeat(server)
    assert len(str(caught.value)) <= 300


def test_a_server_that_is_away_may_come_back(server: Server) -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1") as caught:
        ask(Endpoint(base_url="http://127.0.0.1:1"), lambda client: client.heartbeat("a1", ()))
    assert caught.value.transient


def test_an_offline_server_that_is_away_can_be_started_again(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "api_key": "offline"}))
    endpoint = Endpoint(base_url="http://127.0.0.1:1", server_dir=tmp_path)
    with pytest.raises(UnavailableError, match=rf"`wandb-submit server start --data {tmp_path}` goes on") as caught:
        ask(endpoint, lambda client: client.heartbeat("a1", ()))
    assert caught.value.transient


def test_without_a_key_the_server_is_not_even_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(NotLoggedInError):
        heartbeat(server)
    assert server.asked == []


def test_a_key_that_was_replaced_after_a_refusal_is_found(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def twice(client: SweepClient) -> None:
        server.answers({}, 401)
        with pytest.raises(NotLoggedInError):
            await client.heartbeat("a1", ())
        monkeypatch.setenv("WANDB_API_KEY", "new")
        server.answers(orders())
        await client.heartbeat("a1", ())

    ask(Endpoint(base_url=server.url), twice)
    assert server.keys == [f"api:{KEY}", "api:new"]


def test_an_offline_server_is_found_where_it_says_and_no_proxy_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("WANDB_HTTP_PROXY", "http://127.0.0.1:1")
    (tmp_path / "server.json").write_text(json.dumps({"url": server.url, "api_key": "offline"}))
    server.answers(orders())
    endpoint = Endpoint(base_url="http://127.0.0.1:1", server_dir=tmp_path)
    assert ask(endpoint, lambda client: client.heartbeat("a1", ())) == []
    assert server.keys == ["api:offline"]


def test_the_offline_server_alone_is_told_what_the_agent_has(server: Server, tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text(json.dumps({"url": server.url, "api_key": "offline"}))
    device = Share(gpus="0,3", cores=(4, 5, 6)).device()
    for folder in (tmp_path, None):
        server.answers(orders())

        async def beat(folder: Path | None = folder) -> None:
            client = SweepClient(Endpoint(base_url=server.url, server_dir=folder), device=device)
            await client.heartbeat("a1", ())
            await client.close()

        asyncio.run(beat())
    metrics = [json.loads(asked["variables"]["metrics"]) for asked in server.asked]
    assert metrics == [{"answered": 0, "gpus": "0,3", "cpus": 3}, {}]


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nonsense://127.0.0.1:1", "http://[", "http://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_one_of_our_errors(
    proxy: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_HTTP_PROXY", proxy)  # it leads to this machine, too
    with pytest.raises(WandbSubmitError):
        heartbeat(server)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, r"cannot answer now \(429 Too Many Requests\): try again later"),
        (503, r"cannot answer now \(503 Service Unavailable\): try again later"),
        (404, "answers with status 404, and not as a W&B server does; check WANDB_BASE_URL"),
        (200, "answers with status 200, and not as a W&B server does; check WANDB_BASE_URL"),
    ],
)
def test_a_server_that_is_busy_is_told_from_one_that_is_none_of_w_and_bs(
    server: Server, status: int, words: str
) -> None:
    server.answers(b"<html>", status)
    with pytest.raises(UnavailableError, match=words):
        sweeps.greet(Endpoint(base_url=server.url))
