"""Which runs a filter lets through, in which order, and page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from offline.clients import Protocol

from wandb_submit.server.control.lifecycle import ServerInfo

RUNS = """
query Runs($project: String!, $entity: String!, $cursor: String, $perPage: Int, $order: String, $filters: JSONString) {
  project(name: $project, entityName: $entity) {
    runCount(filters: $filters)
    runs(filters: $filters, after: $cursor, first: $perPage, order: $order) {
      totalCount edges { node { name state } cursor } pageInfo { endCursor hasNextPage }
    }
  }
}
"""
CHANGE = """
mutation UpsertBucket($name: String, $project: String, $tags: [String!], $groupName: String, $displayName: String,
                      $summaryMetrics: JSONString, $config: JSONString) {
  upsertBucket(input: {name: $name, modelName: $project, tags: $tags, groupName: $groupName, displayName: $displayName,
                       summaryMetrics: $summaryMetrics, config: $config}) { inserted }
}
"""
ODD = 'a "quoted"\\b.é'
# Runs by name: tags, group, config, summary.
ZOO = {
    "a": (["red", "big"], "one", {"lr": 0.1, "opt": "sgd", "net": {"size": 3}, "on": True}, {"loss": 3, "acc": 0.5}),
    "b": (["red"], "one", {"lr": 0.01, "opt": "Adam", "layers": [1, 2]}, {"loss": 1, "deep": {"x": 1}}),
    "c": ([], "two", {"lr": 1, "a.b": 7, ODD: 5}, {"loss": 2.5, "deep.x": 2}),
    "d": (["blue"], None, {"net": {"size": 5, ODD: 1}}, {"loss": "NaN", ODD: {ODD: 9}}),
    "e": ([], None, {}, {}),
}


@pytest.fixture(scope="module")
def zoo(server: ServerInfo) -> Iterator[Protocol]:
    """A project with five runs that differ in all that can be filtered."""
    with Protocol(server, project="zoo") as client:
        for name, (tags, group, config, summary) in ZOO.items():
            client.start_run(name)
            client.data(
                CHANGE,
                name=name,
                project="zoo",
                tags=tags,
                groupName=group,
                displayName=f"Run {name.upper()}",
                config=json.dumps({key: {"value": value} for key, value in config.items()}),
                summaryMetrics=json.dumps(summary),
            )
        client.finish("a")
        client.finish("b", 1)
        client.stream("c", preempting=True)
        yield client


def page(client: Protocol, **wanted: object):
    return client.data(RUNS, project=client.project, entity=client.entity, **wanted)["project"]


def names(client: Protocol, **wanted: object) -> str:
    found = page(client, **wanted)
    text = "".join(edge["node"]["name"] for edge in found["runs"]["edges"])
    assert found["runCount"] == found["runs"]["totalCount"] == len(text)
    return text


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, "abcde"),
        ({"name": "a"}, "a"),
        ({"name": {"$in": ["a", "c", None]}}, "ac"),
        ({"name": {"$in": []}}, ""),
        ({"name": {"$nin": ["a", "c"]}}, "bde"),
        ({"$or": [{"name": "a"}, {"name": "b"}]}, "ab"),
        ({"$or": []}, ""),
        ({"$and": []}, "abcde"),
        ({"$nor": [{"name": "a"}, {"name": "b"}]}, "cde"),
        ({"$not": {"name": "a"}}, "bcde"),
        ({"$and": [{"name": {"$gt": "a"}}, {"name": {"$lte": "c"}}]}, "bc"),
        ({"name": {"$not": {"$gt": "b"}}}, "ab"),
        ({"display_name": {"$regex": "^run [a-c]$", "$options": "i"}}, "abc"),
        ({"displayName": {"$regex": "[DE]"}}, "de"),
        ({"displayName": {"$not": {"$regex": "[DE]"}}}, "abc"),
        ({"config.opt": {"$regex": "a"}}, "b"),
        ({"state": "finished"}, "a"),
        ({"state": {"$in": ["failed", "preempting"]}}, "bc"),
        ({"state": "running"}, "de"),
        ({"state": {"$ne": "running"}}, "abc"),
        ({"tags": "red"}, "ab"),
        ({"tags": {"$in": ["big", "blue"]}}, "ad"),
        ({"tags": {"$nin": ["big", "blue"]}}, "bce"),
        ({"tags": {"$ne": "red"}}, "cde"),
        ({"tags": {"$all": ["red", "big"]}}, "a"),
        ({"tags": {"$exists": False}}, "ce"),
        ({"tags": {"$regex": "^b"}}, "ad"),
        ({"$or": [{"tags": None}, {"tags": {"$ne": "red"}}]}, "cde"),
        ({"tags": ["red", "big"]}, "a"),
        ({"group": "one"}, "ab"),
        ({"group": None}, "de"),
        ({"group": {"$ne": "one"}}, "cde"),
        ({"group": {"$in": ["two", None]}}, "cde"),
        ({"group": {"$exists": True}}, "abc"),
        ({"config.lr": 0.1}, "a"),
        ({"config.lr.value": {"$lt": 0.5}}, "ab"),
        ({"config.lr": {"$gte": 0.01, "$lt": 1}}, "ab"),
        ({"config.lr": {"$not": {"$gt": 0.05}}}, "bde"),
        ({"config.lr": {"$nin": [0.1]}}, "bcde"),
        ({"config.lr": {}}, "abcde"),
        ({"config.opt": {"$gt": 0}}, ""),
        ({"config.on": True}, "a"),
        ({"config.net.size": 3}, "a"),
        ({"config.net.value.size": {"$gt": 2}}, "ad"),
        ({"config.net": {"size": 3}}, "a"),
        ({"config.layers": [1, 2]}, "b"),
        ({"config.a.b": 7}, "c"),
        ({f"config.{ODD}": 5}, "c"),
        ({"summary_metrics.loss": {"$lt": 3}}, "bc"),
        ({"summaryMetrics.loss": {"$exists": True}}, "abcd"),
        ({"summary_metrics.loss": {"$exists": False}}, "e"),
        ({"summary_metrics.loss": "NaN"}, "d"),
        ({"summary_metrics.deep.x": {"$gt": 0}}, "bc"),
        ({f"summary_metrics.{ODD}.{ODD}": 9}, ""),
        ({"created_at": {"$gt": "2020-01-01T00:00:00Z"}}, "abcde"),
        ({"createdAt": {"$lt": "2020-01-01"}}, ""),
        ({"heartbeat_at": {"$gt": 1_500_000_000_000}}, "abcde"),
        ({"created_at": {"$exists": True}, "entity": "local", "username": "local"}, "abcde"),
        ({"user.username": {"$ne": "local"}}, ""),
        ({"duration": {"$gte": 0}}, "abcde"),
        ({"sweep": None}, "abcde"),
        ({"sweep": {"$ne": "nosuch"}}, "abcde"),
    ],
    ids=json.dumps,
)
def test_filters(zoo: Protocol, filters: dict[str, object], found: str):
    assert names(zoo, filters=json.dumps(filters)) == found


def test_a_time_that_was_shown_is_equal_to_itself(zoo: Protocol):
    query = '{ project(name: "zoo", entityName: "local") { run(name: "a") { createdAt } } }'
    shown = zoo.data(query)["project"]["run"]["createdAt"]
    assert "a" in names(zoo, filters=json.dumps({"created_at": shown}))
    assert "a" in names(zoo, filters=json.dumps({"created_at": {"$lte": shown}}))
    assert "a" not in names(zoo, filters=json.dumps({"created_at": {"$lt": shown}}))


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (None, "abcde"),
        ("+created_at", "abcde"),
        ("-created_at", "edcba"),
        ("-name", "edcba"),
        ("+summary_metrics.loss", "bcade"),
        ("-summary_metrics.loss", "acbde"),
        ("-config.lr.value", "cabde"),
        ("+config.opt", "bacde"),
        ("+group,-name", "baced"),
        ("-group,+config.lr", "cbade"),
        ("+duration", None),
        ("-heartbeat_at", None),
        ("+summary_metrics.no,such", "abcde"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_orders_page_by_page(zoo: Protocol, order: str | None, found: str | None, size: int):
    seen, cursor = "", None
    while True:
        runs = page(zoo, order=order, perPage=size, cursor=cursor)["runs"]
        seen += "".join(edge["node"]["name"] for edge in runs["edges"])
        if not runs["pageInfo"]["hasNextPage"]:
            break
        cursor = runs["edges"][-1]["cursor"]
        assert cursor == runs["pageInfo"]["endCursor"]
    assert seen == found if found is not None else sorted(seen) == list("abcde")


@pytest.mark.parametrize("order", ["+created_at", "-created_at", "-summary_metrics.loss"])
def test_runs_that_come_and_go_move_no_page(server: ServerInfo, order: str):
    with Protocol(server, project=f"moving{order}") as client:
        ids = {}
        for number in range(10):
            ids[f"r{number}"] = client.start_run(f"r{number}")["bucket"]["id"]
            client.finish(f"r{number}", summary={"loss": number})
        first = page(client, order=order, perPage=4)["runs"]
        seen = [edge["node"]["name"] for edge in first["edges"]]
        gone = seen[0]
        client.data("mutation D($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }", id=ids[gone])
        client.start_run("new")
        client.finish("new", summary={"loss": 99})
        cursor = first["pageInfo"]["endCursor"]
        rest = page(client, order=order, perPage=100, cursor=cursor)["runs"]
        seen += [edge["node"]["name"] for edge in rest["edges"]]
        assert sorted(set(seen) - {"new"}) == sorted(ids)
        assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    "wanted",
    [
        {"cursor": "bm8="},
        {"cursor": "é"},
        {"cursor": "WyJhIl0="},
        {"order": "+tags"},
        {"order": "loss"},
        {"order": ",".join(["+name"] * 50)},
        {"filters": json.dumps({"tags": {"$gt": "a"}})},
        {"filters": json.dumps({"name": {"$regex": "(a"}})},
        {"filters": json.dumps({"name": {"$regex": r"(a)\1"}})},
        {"filters": json.dumps({"name": {"$regex": "a" * 2000}})},
        {"filters": json.dumps({"name": {"$regex": "a", "$options": "z"}})},
        {"filters": json.dumps({"created_at": {"$gt": "yesterday"}})},
        {"filters": json.dumps({"name": {"$gt": None}})},
        {"filters": json.dumps({"config." + ".".join("a" * 50): 1})},
    ],
)
def test_what_cannot_be_meant_is_refused(zoo: Protocol, wanted: dict[str, str]):
    answer = zoo.post(RUNS, project="zoo", entity="local", **wanted)
    assert answer.status_code == 400
    assert answer.json()["errors"]


def test_a_pattern_that_other_engines_choke_on_is_answered_at_once(zoo: Protocol):
    run = "a" * 100 + "b"
    zoo.data(CHANGE, name="choke", project="choke", displayName=run)
    zoo_filter = json.dumps({"displayName": {"$regex": "^(a+)+$"}})
    assert zoo.data(RUNS, project="choke", entity="local", filters=zoo_filter)["project"]["runCount"] == 0
