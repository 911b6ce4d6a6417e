"""Whatever a client sends is answered with what is wrong with it, and harms nobody else's data."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from offline.clients import CREATE_SWEEP, START_RUN
from offline.in_process import KEY, Answer, App, running

from wandb_submit.server.service import schema

VICTIM = """
{ project(name: "victims", entityName: "local") {
    sweeps { edges { node { id name state config runCount } } }
    runs { edges { node { id name state config summaryMetrics historyLineCount
                          files { edges { node { name md5 sizeBytes } } } history(samples: 100) } } } } }
"""
fuzz = settings(
    deadline=None,
    database=None,
    # Shrinking is for a person to switch on: a failure is reported as it was found.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


class Server:
    """A server in this process, with a run and a sweep of somebody else in it."""

    def __init__(self, app: App, caplog: pytest.LogCaptureFixture) -> None:
        self.app, self._caplog = app, caplog
        app.graphql(CREATE_SWEEP, projectName="victims", config="{method: grid, parameters: {x: {values: [1, 2]}}}")
        for project in ("victims", "tests"):
            app.graphql(START_RUN, name="run", project=project, config='{"lr": {"value": 1}}', host="h")
            assert app.send("PUT", f"/storage/local/{project}/run/file.txt", b"theirs").status == 200
        row = b'{"files": {"wandb-history.jsonl": {"offset": 0, "content": ["{}"]}}}'
        assert app.send("POST", "/files/local/victims/run/file_stream", row).status == 200
        self._victim = app.graphql(VICTIM)

    def take(self, method: str, target: str, content: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """Sends a request; its answer must be no mistake of the server's."""
        answer = self.app.send(method, target, content, headers={"Content-Type": "application/json", **(headers or {})})
        assert answer.status < 500, (target, content, answer)
        if answer.status >= 400 and method == "POST" and "json" in answer.headers["content-type"]:
            assert answer.json()["errors"][0]["message"]
        wrong = [record.getMessage() for record in self._caplog.records if record.levelno >= logging.ERROR]
        assert wrong == [], (target, content, self._caplog.text)
        return answer

    def check_others(self) -> None:
        """Looks at whether anything of somebody else's has changed, or lies where it should not."""
        assert self.app.graphql(VICTIM) == self._victim
        assert self.app.send("GET", "/storage/local/victims/run/file.txt").body == b"theirs"
        assert {path.name for path in self.app.folder.parent.iterdir()} == {self.app.folder.name}
        assert list((self.app.folder / "uploads").iterdir()) == []


@pytest.fixture
def server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Server]:
    with running(tmp_path / "data") as app:
        server = Server(app, caplog)
        yield server
        server.check_others()


numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([2**31, -(2**31), 2**53, 2**62, 2**63, 2**64, 10**400, -0.0, 1e308])
)
ODD_TEXTS = [
    *(
        "",
        "null",
        "{}",
        "[]",
        '{"a": NaN}',
        "run",
        "tests",
        "local",
        "\x00",
        "\ud800",
        "'; DROP TABLE runs; --",
        "1e999",
    ),
    *("1e999", "<script>alert(1)</script>", "../../etc/passwd", "%2e%2e", "+created_at", "-summary_metrics.x"),
]
texts = st.one_of(st.text(max_size=30), st.sampled_from(ODD_TEXTS))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
json_texts = st.one_of(values.map(lambda value: json.dumps(value)), texts)

FIELDS = [
    *(*sorted(schema.QUERIES), *sorted(schema.MUTATIONS), "id", "name", "runs", "edges", "node", "sweep"),
    *("sweeps", "run"),
    *("files", "history", "sampledHistory", "agents", "agent", "pageInfo", "bucket", "project", "entity", "config"),
    *("parquetHistory", "historyKeys", "summaryMetrics", "__typename", "wandbConfig", "url", "unheardOf"),
]  # fmt: skip
ARGUMENTS = [
    *("name", "entityName", "input", "id", "first", "after", "order", "filters", "samples", "specs", "spec", "minStep"),
    *("maxStep", "pageSize", "config", "state", "sweepName", "sweep", "names", "pattern", "keys", "runState", "host"),
    *("modelName", "projectName", "tags", "summaryMetrics", "displayName", "files", "run", "liveKeys", "metrics"),
    *("run", "runName", "groupName", "jobType", "notes", "description", "missingOk", "agentName", "upload", "last"),
]


def graphql_value(value: object) -> str:
    if isinstance(value, dict):
        pairs = (f"{key}: {graphql_value(inner)}" for key, inner in value.items() if str(key).isidentifier())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(graphql_value, value)) + "]"
    return json.dumps(value)


arguments = st.dictionaries(
    st.sampled_from(ARGUMENTS),
    st.one_of(
        json_texts.map(json.dumps), values.map(graphql_value), st.sampled_from(["$v", "$w", "$u", '"run"', '"tests"'])
    ),
    max_size=6,
).map(
    lambda given: "(" + ", ".join(f"{key}: {value}" for key, value in given.items()) + ")" if given else ""
)  # fmt: skip
inputs = st.dictionaries(st.sampled_from(ARGUMENTS), values, max_size=8).map(
    lambda given: "(input: " + graphql_value(given) + ")"
)
names = st.sampled_from(FIELDS)
selections = st.recursive(
    st.builds(lambda alias, name, given: f"{alias}{name}{given}", st.sampled_from(["", "a: ", "b: "]), names, arguments)
    | st.sampled_from(["...F", "...G", "...H", "... on Run { id }", "id @skip(if: $v)", "name @include(if: true)"]),
    lambda inner: st.builds(
        lambda name, given, fields: f"{name}{given} {{ {' '.join(fields)} }}",
        names,
        arguments,
        st.lists(inner, min_size=1, max_size=4),
    ),
    max_leaves=10,
)
documents = st.builds(
    lambda kind, fields, fragments: (
        f"{kind} O($v: Int = 3, $w: [String!]) {{ {' '.join(fields)} }} "
        + " ".join(f"fragment {name} on X {{ {' '.join(inner)} }}" for name, inner in fragments.items())
    ),
    st.sampled_from(["query", "mutation", "subscription"]),
    st.lists(selections, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from("FGH"), st.lists(selections, min_size=1, max_size=3)),
)
mutations = st.builds(
    lambda name, given: f"mutation {{ {name}{given} {{ __typename bucket {{ id config }} sweep {{ id }} }} }}",
    st.sampled_from(sorted(schema.MUTATIONS)),
    inputs,
)


@settings(fuzz, max_examples=400)
@given(st.one_of(documents, mutations, texts), st.dictionaries(st.sampled_from("vwu"), values), values)
def test_any_graphql_request(server: Server, document: str, variables: dict[str, object], name: object):
    body = json.dumps({"query": document, "variables": variables, "operationName": name})
    server.take("POST", "/graphql", body.encode())


@settings(fuzz, max_examples=150)
@given(st.one_of(st.binary(max_size=60), values.map(lambda value: json.dumps(value).encode())), texts, texts)
def test_any_body_in_any_encoding(server: Server, body: bytes, encoding: str, kind: str):
    def header(text: str) -> str:
        return "".join(letter for letter in text if " " < letter < "\x7f")

    for path in ("/graphql", "/files/local/tests/run/file_stream"):
        server.take("POST", path, body)
        server.take("POST", path, body, {"Content-Encoding": "gzip"})
        server.take("POST", path, body, {"Content-Encoding": header(encoding), "Content-Type": header(kind)})


lines = st.lists(json_texts | values.map(lambda value: json.dumps({"_step": value, "x": value})))
chunks = st.fixed_dictionaries({}, optional={"offset": numbers | values, "content": lines | values})
stream_names = st.sampled_from(["wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json", "output.log", "x"])
streams = st.fixed_dictionaries(
    {},
    optional={
        "files": st.dictionaries(stream_names, chunks) | values,
        **dict.fromkeys(("complete", "exitcode", "preempting", "uploaded", "dropped"), values),
    },
)


@settings(fuzz, max_examples=300)
@given(streams)
def test_anything_that_a_run_may_log(server: Server, body: dict[str, object]):
    server.take("POST", "/files/local/tests/run/file_stream", json.dumps(body).encode())


HUGE = "1" + "0" * 5000
ODD_JSON = [
    f'{{"loss": 1{"0" * 400}, "x": {{"value": -1{"0" * 400}}}, "_step": {HUGE}, "_runtime": 1e308}}',
    f'{{"a\\ud800": "\\udfff", "loss": {HUGE}, "l": [1e400, "\\ud800"], "_runtime": -1e400, "_timestamp": {HUGE}}}',
    '{"loss": 1.7e308, "acc": -1.7e308, "_runtime": 1.7e308, "nul\\u0000": "\\u0000", "a": -0.0, "a": 2}',
    '{"loss": -1.7e308, "acc": 1.7e308, "_runtime": -1.7e308, "": {"": NaN}}',
    '{"loss": {"max": 1e400, "\\udc00": {"\\ud800": 3}}, "e": "\\ud83d\\ude00 \\\\ud800"}',
    '{"x": ' + "[" * 490 + "]" * 490 + "}",
]
KEEP = """
mutation($run: String!, $sweep: String, $json: JSONString!, $text: String!) {
  upsertBucket(input: {name: $run, modelName: "odd", sweep: $sweep, host: "h", config: $json, summaryMetrics: $json,
                       displayName: $text, notes: $text, tags: [$text], groupName: $text}) { bucket { id } } }
"""
ALL = """
query($order: String) { project(name: "odd", entityName: "local") {
  runs(order: $order) { edges { cursor node {
    name config summaryMetrics systemMetrics tags notes displayName historyKeys historyTail wandbConfig(keys: ["t"])
    history(samples: 9) events(samples: 9) sampledHistory(specs: ["{\\"keys\\": [\\"loss\\"]}"])
    parquetHistory(liveKeys: ["loss"]) { liveData } logLines(first: 9) { edges { node { line } } } } } }
  sweeps { edges { node { name bestLoss runs { edges { node { name } } } } } } } }
"""
half_texts = st.text(st.characters(codec=None) | st.sampled_from("\ud800\udfff\x00"), max_size=8)
odd_json = st.sampled_from(ODD_JSON) | st.dictionaries(
    st.sampled_from(["loss", "acc", "x", "_step", "_runtime"]) | half_texts, values, max_size=6
).map(json.dumps)


@settings(fuzz, max_examples=60)
@given(st.lists(odd_json, min_size=1, max_size=4), half_texts)
def test_whatever_runs_have_stored_can_be_read_and_hides_no_other(server: Server, stored: list[str], text: str):
    config = "{method: grid, metric: {name: loss}, parameters: {x: {values: [1, 2]}}}"
    sweep = server.app.graphql(CREATE_SWEEP, projectName="odd", config=config)["upsertSweep"]["sweep"]["name"]
    server.app.graphql(START_RUN, name="plain", project="odd", config='{"x": {"value": 1}}', host="h", sweep=sweep)
    for number, kept in enumerate(stored):
        variables = {"run": f"r{number}", "sweep": sweep if number % 2 else None, "json": kept, "text": text}
        answer = server.take("POST", "/graphql", json.dumps({"query": KEEP, "variables": variables}).encode())
        assert answer.status == 200, answer
        histories = ("wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json")
        files = {name: {"offset": 0, "content": [kept, *ODD_JSON[:3], kept]} for name in histories}
        files["output.log"] = {"offset": 0, "content": [text, f"{text}x"]}
        stream = f"/files/local/odd/r{number}/file_stream"
        assert server.take("POST", stream, json.dumps({"files": files}).encode()).status == 200
    for order in ("-summary_metrics.loss", "+config.x", "-summary_metrics.acc,+config.loss"):
        project = server.app.graphql(ALL, order=order)["project"]
        names = {edge["node"]["name"] for edge in project["runs"]["edges"]}
        assert {"plain", *(f"r{number}" for number in range(len(stored)))} <= names
        assert sweep in {edge["node"]["name"] for edge in project["sweeps"]["edges"]}
    pages = ["", "local/odd", f"local/odd/sweeps/{sweep}", f"local/odd/sweeps/{sweep}?sort=summary%3Aloss"]
    for page in [*pages, *(f"local/odd/runs/r{number}" for number in range(len(stored)))]:
        assert server.take("GET", f"/{page}").status == 200


letters = st.sampled_from(
    ["..", ".", "/", "\\", "a", "%2e", "%2f", "%5c", "%00", "\x00", "é", "😀", "~", " ", ":", "?", "#"]
)
file_names = st.one_of(st.lists(letters, max_size=12).map("".join), st.text(max_size=40), texts)


@settings(fuzz, max_examples=300)
@given(file_names, st.booleans(), texts)
def test_any_file_name(server: Server, name: str, is_quoted: bool, run: str):
    path = quote(name.encode(errors="replace"), safe="") if is_quoted else quote(name.encode(errors="replace"), "/%.~")
    server.take("PUT", f"/storage/local/tests/run/{path}", b"x")
    server.take("GET", f"/storage/local/tests/run/{path}")
    server.take("PUT", f"/storage/local/tests/{quote(run.encode(errors='replace'), safe='')}/{path}", b"x")
    server.take("GET", f"/storage/{path}/run/file.txt?{path}")


PAGES = ["", "local/tests", "local/tests/runs", "local/tests/runs/run", "local/tests/sweeps", "local/victims", "-"]
QUERIES = st.dictionaries(st.sampled_from(["sort", "order", "page", "metric", "x", "filter", "after"]) | texts, texts)


@settings(fuzz, max_examples=100)
@given(st.sampled_from(PAGES), texts, QUERIES)
def test_any_address_of_a_page(server: Server, page: str, more: str, asked: dict[str, str]):
    query = "&".join(f"{quote_all(name)}={quote_all(value)}" for name, value in asked.items())
    for target in (f"/{page}?{query}", f"/{page}/{quote_all(more)}?{query}", f"/{quote_all(more)}/{page}"):
        answer = server.take("GET", target)
        assert b"<script>alert" not in answer.body


def quote_all(text: str) -> str:
    return quote(text.encode(errors="replace"), safe="")


credentials = st.one_of(
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    st.builds(lambda user, password: authorization_of(user, password), texts, st.text(max_size=50)),
    st.sampled_from(["", "Basic", "Basic ", f"Bearer {KEY}", f"Basic {KEY}", f"basic api:{KEY}", "Basic Og=="]),
)


def authorization_of(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode(errors="replace")).decode()


@settings(fuzz, max_examples=150)
@given(credentials, st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]), texts)
def test_nothing_is_given_to_those_without_the_key(server: Server, credential: str, method: str, text: str):
    header = {"Authorization": credential.strip()}
    question = quote(text.encode(errors="replace"))
    for path in ("/graphql", "/files/local/tests/run/file_stream", "/storage/local/victims/run/file.txt"):
        for query in ("", f"?{question}", f"?key={KEY}", f"?api_key={KEY}&{question}"):
            assert server.take(method, path + query, b"{}", header).status in (401, 404, 405)
