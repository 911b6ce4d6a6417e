"""The GraphQL that clients may send, at the server's door and in the executor itself."""

from __future__ import annotations

import base64

import httpx
import pytest
from offline.clients import Protocol

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.graphql.executor import ABSENT, Execution
from wandb_submit.server.graphql.request import choose, read
from wandb_submit.server.storage.refusals import Refusal

FAMILY = {
    "name": "Ada",
    "age": 36,
    "children": [{"name": "Byron", "age": 1}, None],
    "greeting": lambda arguments: f"{arguments.text('word')} Ada",
    "kind": {"a": 1},
}


def run(text: str, **variables: object) -> dict[str, object]:
    document = read(text)

    def root(name: str, arguments: Arguments) -> object:
        return FAMILY if name == "person" else arguments.texts("of")

    return Execution(document, choose(document, None), variables).run(root)


def test_fields_aliases_fragments_and_lists():
    text = """
    # a comment
    query Q($word: String = "Hello", $of: [String!]!) @client {
      me: person { ...Named, greeting(word: $word) kids: children { name } ... on Person { age } ... { kind } nothing }
      other(of: $of)
    }
    fragment Named on Person { name ...Aged }
    fragment Aged on Person { age }
    """
    assert run(text, of=["a", "b"]) == {
        "me": {
            "name": "Ada",
            "age": 36,
            "greeting": "Hello Ada",
            "kids": [{"name": "Byron"}, None],
            "kind": {"a": 1},
            "nothing": None,
        },
        "other": ["a", "b"],
    }


def test_a_field_that_is_not_there_is_null_and_noted_or_refused_by_name():
    document = read("query Q { person { name children { name hobby } nothing toys { name } } }")
    execution = Execution(document, choose(document, None), {})
    answer = execution.run(lambda *_: {**FAMILY, "__typename": "Person", "toys": None})
    assert answer["person"]["children"][0] == {"name": "Byron", "hobby": None}
    assert execution.lacking == {"children.hobby", "Person.nothing"}
    with pytest.raises(Refusal, match="no field 'toys', which the query Q asks for"):
        execution.run(lambda *_: {**FAMILY, "toys": ABSENT})


def test_a_field_asked_for_twice_is_one():
    assert run("{ person { kind { a } } p: person { children { name } children { age } } }")["person"] == {
        "kind": {"a": 1}
    }


def test_what_two_fragments_ask_for_is_answered_together_in_lists_too():
    text = """
    { person { ...A ...B ...A } person { kind { a } } }
    fragment A on Person { children { name } kind { b: a } }
    fragment B on Person { children { age } ...A }
    """
    assert run(text)["person"] == {
        "children": [{"name": "Byron", "age": 1}, None],
        "kind": {"b": 1, "a": 1},
    }


def test_fragments_that_double_again_and_again_are_read_once():
    text = "{ person { ...F0 } }" + "".join(f" fragment F{n} on P {{ ...F{n + 1} ...F{n + 1} }}" for n in range(100))
    assert run(text + " fragment F100 on P { name }") == {"person": {"name": "Ada"}}


def test_include_and_skip():
    text = "query Q($yes: Boolean!) { person { name @include(if: $yes) age @skip(if: $yes) } }"
    assert run(text, yes=True) == {"person": {"name": "Ada"}}
    assert run(text, yes=False) == {"person": {"age": 36}}


def test_literals():
    text = r'{ other(of: ["a\"\u00e9\n", """block "quoted" """, "{ not a brace }"]) }'
    assert run(text) == {"other": ['a"é\n', 'block "quoted" ', "{ not a brace }"]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "query",
        "query {",
        "{ a(b: ) }",
        "{ a ... }",
        "subscription S { a }",
        '{ a(b: "open) }',
        "{ a } é",
        "{ ...Gone }",
        "type A { b: Int }",
        "{ a } { b }",
        "{ viewer { id }" + " " * 100_000 + "}",
    ],
)
def test_what_is_not_graphql_is_refused(text: str):
    with pytest.raises(Refusal):
        run(text)


def test_hostile_nesting_is_refused(protocol: Protocol):
    for text in ("{ a" * 5000 + "}" * 5000, "{ a(b: " + "[" * 5000 + "]" * 5000 + ") }"):
        assert protocol.post(text).status_code == 400
    endless = "{ viewer { ...A } } fragment A on User { name ...A }"
    assert protocol.post(endless).status_code == 400
    deep = "".join(f" fragment F{n} on P {{ ...F{n + 1} }}" for n in range(1500))
    assert protocol.post("{ viewer { ...F0 } }" + deep + " fragment F1500 on P { name }").status_code == 400


def test_clients_may_look_for_root_fields(protocol: Protocol):
    text = """
    { __typename __schema { queryType { name fields { name } } mutationType { name } }
      mutation: __type(name: "Mutation") { fields { name } } none: __type(name: "Run") { name } viewer { __typename } }
    """
    data = protocol.data(text)
    assert data["__typename"] == "Query"
    assert {"name": "project"} in data["__schema"]["queryType"]["fields"]
    assert {"name": "upsertBucket"} in data["mutation"]["fields"]
    assert data["none"] is None
    assert data["viewer"] == {"__typename": "User"}


def test_an_unknown_field_is_named_in_an_answer_and_once_in_the_log(protocol: Protocol, server):
    for _ in range(3):
        answer = protocol.post("query Reports { reportsOfTomorrow(x: 1) { id } }")
        assert answer.status_code == 200
        message = answer.json()["errors"][0]["message"]
        assert "'reportsOfTomorrow'" in message
        assert "query Reports" in message
    assert (server.data_dir / "server.log").read_text().count("reportsOfTomorrow") == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"query": 1}', b'{"query": "{viewer{id}}", "variables": []}', b"\xff"]
)
def test_a_body_that_is_no_request_is_refused(protocol: Protocol, body: bytes):
    answer = protocol.http.post("/graphql", content=body)
    assert answer.status_code == (200 if b"[]}" in body else 400)


def test_nothing_but_health_is_told_without_the_key(server):
    basic = base64.b64encode(b"api:" + b"0" * 40).decode()
    for headers in (
        {},
        {"Authorization": "Basic ?"},
        {"Authorization": f"Basic {basic}"},
        {"Authorization": server.api_key},
    ):
        with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as client:
            assert client.get("/healthz").status_code == 200
            for method, path in (
                ("POST", "/graphql"),
                ("POST", "/files/local/tests/r/file_stream"),
                ("PUT", "/storage/local/tests/r/f"),
                ("GET", "/storage/local/tests/r/f"),
            ):
                answer = client.request(method, path, json={"query": "{ viewer { id } }"})
                assert answer.status_code == 401
                assert answer.json()["errors"]


def test_telemetry_is_not_found(protocol: Protocol):
    assert protocol.http.post("/sdk/otel/v1/metrics", content=b"x").status_code == 404
