"""What runs upload and what can be read of them, spoken directly."""

from __future__ import annotations

import json

import httpx
import pytest
from offline.clients import Protocol

RUN = """
query Run($project: String!, $entity: String!, $name: String!, $samples: Int, $specs: [JSONString!]!,
          $min: Int64, $max: Int64) {
  project(name: $project, entityName: $entity) {
    run(name: $name) {
      id name state config summaryMetrics systemMetrics historyLineCount historyKeys tags
      history(samples: $samples)
      range: history(minStep: $min, maxStep: $max, samples: 1000)
      sampledHistory(specs: $specs)
      files { edges { node { name sizeBytes md5 url directUrl updatedAt } } }
    }
  }
}
"""
RUNS = """
query Runs($project: String!, $entity: String!, $cursor: String, $perPage: Int, $order: String, $filters: JSONString) {
  project(name: $project, entityName: $entity) {
    runCount(filters: $filters)
    runs(filters: $filters, after: $cursor, first: $perPage, order: $order) {
      edges { node { name } cursor }
      pageInfo { endCursor hasNextPage }
    }
  }
}
"""
UPLOADS = """
mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) {
  createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) {
    runID uploadHeaders files { name uploadUrl }
  }
}
"""


def read(client: Protocol, name: str, **wanted: object):
    variables = {"samples": 500, "specs": [], "min": 0, "max": 10**6, **wanted}
    answer = client.data(RUN, project=client.project, entity=client.entity, name=name, **variables)
    return answer["project"]["run"]


def names(client: Protocol, **wanted: object) -> list[str]:
    answer = client.data(RUNS, project=client.project, entity=client.entity, **wanted)
    return [edge["node"]["name"] for edge in answer["project"]["runs"]["edges"]]


def test_history_is_read_whole_in_ranges_in_samples_and_in_series(protocol: Protocol):
    run = protocol.start_run("history")["bucket"]["name"]
    for start in range(0, 1000, 250):
        rows = [
            {"_step": step, "loss": 1 / (step + 1), **({"even": step} if step % 2 == 0 else {})}
            for step in range(start, start + 250)
        ]
        protocol.log(run, rows, offset=start)
    shown = read(
        protocol, run, samples=100, min=10, max=20, specs=[json.dumps({"keys": ["_step", "even"], "samples": 50})]
    )
    assert shown["historyLineCount"] == 1000
    assert shown["historyKeys"]["lastStep"] == 999
    assert shown["historyKeys"]["keys"]["even"]["typeCounts"] == [{"type": "number", "count": 500}]
    assert [json.loads(row)["_step"] for row in shown["range"]] == list(range(10, 20))
    assert 100 <= len(shown["history"]) <= 101
    assert json.loads(shown["history"][-1])["_step"] == 999
    (series,) = shown["sampledHistory"]
    assert len(series) == 50
    assert all(set(row) == {"_step", "even"} for row in series)


def test_a_chunk_that_comes_twice_counts_once(protocol: Protocol):
    run = protocol.start_run("twice")["bucket"]["name"]
    for offset, steps in ((0, [0, 1]), (2, [2, 3]), (2, [2, 3])):
        protocol.log(run, [{"_step": step} for step in steps], offset=offset)
    assert [json.loads(row)["_step"] for row in read(protocol, run)["history"]] == [0, 1, 2, 3]


def test_a_run_that_starts_anew_has_a_new_history(protocol: Protocol):
    run = protocol.start_run("anew")["bucket"]["name"]
    protocol.log(run, [{"_step": step} for step in range(5)])
    protocol.finish(run, 1)
    again = protocol.start_run("anew")
    assert (again["inserted"], again["bucket"]["historyLineCount"]) == (False, None)
    protocol.log(run, [{"_step": 0, "second": True}])
    assert [json.loads(row) for row in read(protocol, run)["history"]] == [{"_step": 0, "second": True}]


@pytest.mark.parametrize(("number", "kept"), [("NaN", "NaN"), ("-Infinity", "-Infinity"), ("1e999", "Infinity")])
def test_numbers_that_json_has_not_are_kept_as_text(protocol: Protocol, number: str, kept: str):
    run = protocol.start_run("nan")["bucket"]["name"]
    row = f'{{"_step": 0, "loss": {number}}}'
    files = {name: {"offset": 0, "content": [row]} for name in ("wandb-history.jsonl", "wandb-summary.json")}
    assert protocol.stream(run, files=files).status_code == 200
    assert json.loads(read(protocol, run)["history"][0]) == {"_step": 0, "loss": kept}
    assert run in names(protocol, order="+summary_metrics.loss", perPage=1000)


def test_a_sweeps_own_values_stay_in_the_config(protocol: Protocol):
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": [5]}})
    run = protocol.take_run(protocol.agent(sweep))["run_id"]
    protocol.start_run(run, sweep=sweep, config=json.dumps({"y": {"value": 2}}))
    assert json.loads(read(protocol, run)["config"]) == {"x": {"value": 5}, "y": {"value": 2}}


def test_runs_are_ordered_filtered_and_paged(server):
    with Protocol(server, project="listing") as client:
        for number, loss in enumerate([3, 1, 2]):
            client.start_run(f"r{number}", config=json.dumps({"lr": {"value": number}}))
            client.finish(f"r{number}", summary={"loss": loss, "val": {"acc": -loss}, "a.b": number})
        client.start_run("none")
        assert names(client) == ["r0", "r1", "r2", "none"]
        assert names(client, order="-created_at") == ["none", "r2", "r1", "r0"]
        assert names(client, order="+summary_metrics.loss") == ["r1", "r2", "r0", "none"]
        assert names(client, order="-summary_metrics.loss") == ["r0", "r2", "r1", "none"]
        assert names(client, order="+summary_metrics.val.acc")[:3] == ["r0", "r2", "r1"]
        assert names(client, order="-summary_metrics.a.b")[:3] == ["r2", "r1", "r0"]
        assert names(client, order="-config.lr.value")[:3] == ["r2", "r1", "r0"]
        assert names(client, filters=json.dumps({"$and": [{"state": "finished"}, {"config.lr": {"$gte": 1}}]})) == [
            "r1",
            "r2",
        ]
        assert names(client, filters=json.dumps({"name": {"$in": ["r0", "none"]}})) == ["r0", "none"]
        assert names(client, filters=json.dumps({"created_at": {"$lt": "2020-01-01"}})) == []
        assert len(names(client, filters=json.dumps({"createdAt": {"$gte": "2020-01-01T00:00:00Z"}}))) == 4
        first = client.data(RUNS, project="listing", entity="local", perPage=3)["project"]
        assert first["runCount"] == 4
        page = first["runs"]["pageInfo"]
        assert page["hasNextPage"]
        assert names(client, cursor=page["endCursor"], perPage=3) == ["none"]


def test_an_unknown_filter_is_refused_by_name(protocol: Protocol):
    protocol.start_run("any")
    for filters in ({"jobs": 1}, {"state": {"$near": "f"}}):
        answer = protocol.post(RUNS, project="tests", entity="local", filters=json.dumps(filters))
        assert answer.status_code == 400
        assert "does not know" in answer.text or "cannot filter" in answer.text


def test_files_come_back_as_they_went(protocol: Protocol):
    run = protocol.start_run("files")["bucket"]["name"]
    files = ["config.yaml", "media/images/a b#1.png"]
    created = protocol.data(UPLOADS, entity="local", project="tests", run=run, files=files)["createRunFiles"]
    headers = dict(header.split(":", 1) for header in created["uploadHeaders"])
    content = bytes(range(256)) * 20_000
    with httpx.Client(trust_env=False) as other:
        for file in created["files"]:
            assert other.put(file["uploadUrl"], content=content).status_code == 401
            assert other.put(file["uploadUrl"], content=content, headers=headers).status_code == 200
    shown = [edge["node"] for edge in read(protocol, run)["files"]["edges"]]
    assert [(file["name"], file["sizeBytes"]) for file in shown] == [(name, len(content)) for name in files]
    for file in shown:
        assert protocol.http.get(file["url"]).content == content
        direct = file["directUrl"]
        assert httpx.get(direct, trust_env=False).content == content
        assert httpx.get(direct.replace("files/", "other/"), trust_env=False).status_code == 401


def test_files_whose_names_are_no_text_do_not_take_each_others_place(protocol: Protocol):
    run = protocol.start_run("names")["bucket"]["name"]
    files = ["good.txt", "caf\ufffd.txt", "caf\u00e9.txt", "cafe\u0301.txt", "CAF\u00c9.txt"]
    created = protocol.data(UPLOADS, entity="local", project="tests", run=run, files=files)["createRunFiles"]["files"]
    answers = {file["name"]: protocol.http.put(file["uploadUrl"], content=file["name"].encode()) for file in created}
    assert [answers[name].status_code for name in files] == [200, 400, 200, 200, 200]
    assert "it was not UTF-8. Rename the file" in answers["caf\ufffd.txt"].json()["errors"][0]["message"]
    for name in ("caf%E9.txt", "caf%e8.txt", "%ED%A0%80.txt"):
        answer = protocol.http.put(f"/storage/local/tests/{run}/{name}", content=b"x")
        assert (answer.status_code, answer.json()["errors"][0]["message"]) == (400, "the address is not UTF-8")
    assert protocol.http.get(f"/storage/local/tests/{run}/caf%E9.txt").status_code == 400
    shown = {edge["node"]["name"]: edge["node"]["url"] for edge in read(protocol, run)["files"]["edges"]}
    assert sorted(shown) == sorted([files[0], *files[2:]])
    for name, url in shown.items():
        assert protocol.http.get(url).content == name.encode()
    halves = {"entity": "local", "project": "tests", "run": run, "files": ["x\ud800.txt"]}
    headers = {"Content-Type": "application/json"}
    answer = protocol.http.post(
        "/graphql", content=json.dumps({"query": UPLOADS, "variables": halves}), headers=headers
    )
    # Of a half nothing is left but that it was no text.
    (file,) = answer.json()["data"]["createRunFiles"]["files"]
    assert file["name"] == "x\ufffd.txt"
    answer = protocol.http.put(file["uploadUrl"], content=b"x")
    assert (answer.status_code, "it was not UTF-8. Rename the file" in answer.text) == (400, True)


CONSOLE = """
query Run($name: String!, $first: Int, $after: String, $last: Int, $names: [String], $pattern: String) {
  project(name: "tests", entityName: "local") { run(name: $name) {
    logLineCount fileCount
    logLines(first: $first, after: $after, last: $last) {
      edges { node { number timestamp level line } } pageInfo { endCursor hasNextPage }
    }
    files(names: $names, pattern: $pattern) { edges { node { name sizeBytes md5 url updatedAt } } }
  } }
}
"""


def test_a_console_can_be_read_while_the_run_goes_on(protocol: Protocol):
    run = protocol.start_run("printing")["bucket"]["name"]

    def shown(**wanted: object):
        return protocol.data(CONSOLE, name=run, **wanted)["project"]["run"]

    assert (shown()["fileCount"], shown()["logLines"]["edges"], shown(names=["output.log"])["logLineCount"]) == (
        0,
        [],
        0,
    )
    lines = ["2026-01-31T12:00:00.000001 é one", "ERROR 2026-01-31T12:00:01.5 two", "2026-01-31T12:00:02 ", "bare"]
    protocol.stream(run, files={"output.log": {"offset": 0, "content": lines}})
    page = shown(first=3)["logLines"]
    assert [edge["node"] for edge in page["edges"]] == [
        {"number": 0, "timestamp": "2026-01-31T12:00:00.000001", "level": "", "line": "é one"},
        {"number": 1, "timestamp": "2026-01-31T12:00:01.5", "level": "error", "line": "two"},
        {"number": 2, "timestamp": "2026-01-31T12:00:02", "level": "", "line": ""},
    ]
    assert page["pageInfo"]["hasNextPage"]
    rest = shown(first=3, after=page["pageInfo"]["endCursor"])["logLines"]
    assert ([edge["node"]["line"] for edge in rest["edges"]], rest["pageInfo"]["hasNextPage"]) == (["bare"], False)
    assert [edge["node"]["number"] for edge in shown(last=2)["logLines"]["edges"]] == [2, 3]
    for wanted in ({}, {"names": ["output.log"]}):
        (file,) = (edge["node"] for edge in shown(**wanted)["files"]["edges"])
        text = protocol.http.get(file["url"]).content
        assert text.decode() == "é one\ntwo\n\nbare\n"
        assert (file["name"], file["sizeBytes"], bool(file["md5"])) == ("output.log", len(text), True)
    protocol.http.put(f"/storage/local/tests/{run}/output.log", content=b"uploaded")
    assert protocol.http.get(file["url"]).content == b"uploaded"
    assert (shown()["fileCount"], shown()["logLineCount"]) == (1, 4)


def test_files_are_found_by_name_and_by_pattern(protocol: Protocol):
    run = protocol.start_run("patterns")["bucket"]["name"]
    for name in ("a.txt", "a_b.txt", "axb.txt", "media/a.png", "[1].txt"):
        assert protocol.http.put(f"/storage/local/tests/{run}/{name}", content=b"x").status_code == 200

    def found(**wanted: object) -> list[str]:
        files = protocol.data(CONSOLE, name=run, **wanted)["project"]["run"]["files"]["edges"]
        return [edge["node"]["name"] for edge in files if edge["node"]["updatedAt"]]

    assert found(pattern="%.png") == ["media/a.png"]
    assert found(pattern="a_b.txt") == ["a_b.txt", "axb.txt"]
    assert found(pattern=r"a\_b.txt") == ["a_b.txt"]
    assert found(pattern="[1]%") == ["[1].txt"]
    assert found(names=["./a.txt", "nosuch", "media/../a_b.txt"]) == ["a.txt", "a_b.txt"]
    missing = protocol.data(CONSOLE, name=run, names=["nosuch"])["project"]["run"]["files"]["edges"]
    assert [(edge["node"]["name"], edge["node"]["sizeBytes"]) for edge in missing] == [("nosuch", 0)]
    marked = 'mutation M($f: [String!]!) { markRunFilesUploaded(input: {entityName: "local", projectName: "tests",'
    marked += ' runName: "patterns", files: $f}) { success } }'
    assert protocol.data(marked, f=["a.txt"])["markRunFilesUploaded"]["success"] is True
    assert protocol.data(marked, f=["nosuch"])["markRunFilesUploaded"]["success"] is False


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".", "a\\b", "a\nb", "x" * 300])
def test_names_that_lead_elsewhere_are_refused(protocol: Protocol, name: str):
    run = protocol.start_run("traversal")["bucket"]["name"]
    answer = protocol.post(UPLOADS, entity="local", project="tests", run=run, files=[name])
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "path", ["local/tests/traversal/..%2F..%2F..%2Fapi_key", "local/..%2F../x/api_key", "%2E%2E/tests/r/f"]
)
def test_paths_that_lead_elsewhere_are_refused(protocol: Protocol, server, path: str):
    protocol.start_run("traversal")
    for method in ("GET", "PUT"):
        answer = protocol.http.request(method, httpx.URL(server.url, raw_path=f"/storage/{path}".encode()))
        assert answer.status_code in (400, 404)
        assert server.api_key not in answer.text


@pytest.mark.parametrize("name", ["..", "a/b", "a\x00b", "é" * 128, ""])
def test_projects_and_runs_cannot_lead_elsewhere(protocol: Protocol, name: str):
    with_run = protocol.post(
        'mutation M($n: String) { upsertBucket(input: {name: $n, modelName: "p", host: "h"}) { inserted } }', n=name
    )
    with_project = protocol.post(
        'mutation M($n: String) { upsertBucket(input: {name: "r", modelName: $n, host: "h"}) { inserted } }', n=name
    )
    # No name at all means a fresh run, or the default project.
    wanted = 400 if name else 200
    assert (with_run.status_code, with_project.status_code) == (wanted, wanted)


def test_an_unknown_run_has_no_stream(protocol: Protocol):
    assert protocol.stream("nosuch").status_code == 404


def test_a_deleted_run_is_gone(protocol: Protocol):
    bucket = protocol.start_run("deleted")["bucket"]
    protocol.log("deleted", [{"_step": 0}])
    protocol.data("mutation DeleteRun($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }", id=bucket["id"])
    assert read(protocol, "deleted") is None
    assert protocol.stream("deleted").status_code == 404


def test_a_run_that_comes_after_a_deleted_one_has_nothing_of_it(protocol: Protocol):
    ids = []
    for name in ("before", "after"):
        bucket = protocol.start_run(name)["bucket"]
        ids.append(bucket["id"])
        protocol.data(
            "mutation DeleteRun($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }", id=bucket["id"]
        )
    assert ids[0] != ids[1]


def test_a_stopped_run_that_is_started_again_is_not_told_to_stop(protocol: Protocol):
    run = protocol.start_run("again")["bucket"]
    protocol.data("mutation StopRun($id: ID!) { stopRun(input: {id: $id}) { success } }", id=run["id"])
    assert protocol.stream("again").json() == {"stopped": True}
    protocol.finish("again", 255)
    protocol.start_run("again")
    assert protocol.stream("again").json() == {}


@pytest.mark.parametrize(
    "wanted",
    [
        {"min": 2**70},
        {"specs": ["5"]},
        {"specs": ['{"keys": 5}']},
        {"specs": ['{"keys": ["x"], "minStep": "a"}']},
        {"samples": "x"},
    ],
)
def test_a_query_that_cannot_be_meant_is_refused_and_not_tried_again(protocol: Protocol, wanted: dict[str, object]):
    protocol.start_run("strange", config='{"_wandb": 5}')
    known = {"samples": 5, "specs": [], "min": 0, "max": 10, "name": "strange"}
    variables = {"project": "tests", "entity": "local", **known, **wanted}
    answer = protocol.http.post("/graphql", content=json.dumps({"query": RUN, "variables": variables}))
    assert answer.status_code == 400
    assert answer.json()["errors"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"cursor": "9" * 30},
        {"order": "+summary_metrics.a\0b"},
        {"filters": json.dumps({"name": {"$in": ["x"] * 100_000}})},
        {"filters": json.dumps({"$or": [{"name": "x"}] * 2000})},
        {"filters": json.dumps({"config.x": 2**80})},
    ],
)
def test_a_listing_that_cannot_be_meant_is_refused_and_not_tried_again(protocol: Protocol, wanted: dict[str, str]):
    protocol.start_run("strange")
    answer = protocol.post(RUNS, project="tests", entity="local", **wanted)
    assert answer.status_code == 400
    assert answer.json()["errors"]


def test_a_state_that_is_none_is_refused(protocol: Protocol):
    text = 'mutation { upsertBucket(input: {name: "odd", modelName: "tests", state: "weird"}) { inserted } }'
    assert protocol.post(text).status_code == 400
    assert read(protocol, "odd") is None


def test_the_names_of_metrics_come_with_their_counts_and_last_values(protocol: Protocol):
    run = protocol.start_run("keys")["bucket"]["name"]
    rows = [{"_step": 0, "a": 1, "on": False, "deep": {"b.c": 1}, "list": [{"x": 1}]}, {"_step": 1, "a": "NaN"}]
    protocol.log(run, [*rows, {"_step": 7, "a": 0.5, "on": True, "list": [2, {"x": 1}]}])
    keys = read(protocol, run)["historyKeys"]
    assert keys["lastStep"] == 7
    assert {name: key["previousValue"] for name, key in keys["keys"].items()} == {
        "_step": 7,
        "a": 0.5,
        "deep.b.c": 1,
        "list": [2, {"x": 1}],
        "on": True,
    }
    counts = {count["type"]: count["count"] for count in keys["keys"]["a"]["typeCounts"]}
    assert counts == {"number": 2, "string": 1}


def test_samples_are_evenly_spread_and_hold_the_first_and_the_last_row(protocol: Protocol):
    run = protocol.start_run("spread")["bucket"]["name"]
    protocol.log(
        run, [{"_step": step, "odd é": step, **({"a": {"b": step}} if step % 3 else {})} for step in range(100)]
    )
    specs = [{"keys": ["_step"], "samples": 3}, {"keys": ["a.b"], "samples": 2}, {"keys": ["odd é", "a.b"]}]
    specs += [{"keys": ["odd é"], "minStep": 10, "maxStep": 13}, {"keys": ["nosuch"]}]
    specs += [{"keys": ["odd é"], "minStep": 10, "maxStep": end, "samples": 3} for end in (12, 13)]
    shown = read(protocol, run, samples=5, min=90, max=10**6, specs=[json.dumps(spec) for spec in specs])
    assert [json.loads(row)["_step"] for row in shown["history"]] == [0, 25, 50, 74, 99]
    assert [json.loads(row)["_step"] for row in shown["range"]] == list(range(90, 100))
    steps, nested, both, ranged, none, newer, older = shown["sampledHistory"]
    assert [row["_step"] for row in steps] == [0, 50, 99]
    assert nested == [{"a.b": 1}, {"a.b": 98}]
    assert len(both) == 66
    for found in (ranged, newer, older):
        assert [row["odd é"] for row in found] == [10, 11, 12]
    assert none == []
    for samples, found in ((0, []), (1, [99]), (10**9, list(range(100)))):
        assert [json.loads(row)["_step"] for row in read(protocol, run, samples=samples)["history"]] == found


def test_more_rows_than_fit_into_an_answer_are_refused_by_size(protocol: Protocol):
    run = protocol.start_run("heavy")["bucket"]["name"]
    for step in range(9):
        protocol.log(run, [{"_step": step, "text": "x" * 2**23}], offset=step)
    variables = {"samples": 500, "specs": [], "min": 0, "max": 10**6, "name": run, "project": "tests"}
    answer = protocol.post(RUN, entity="local", **variables)
    assert answer.status_code == 400
    assert "page_size" in answer.text
    assert len(read(protocol, run, samples=2, max=2)["history"]) == 2
