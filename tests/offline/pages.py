"""Pages of the offline server as tests read them, and sweeps for the pages to show."""

from __future__ import annotations

import html.parser
import json
import math
from dataclasses import dataclass, field

import httpx
from offline.clients import Protocol

_VOID = {"meta", "link", "input", "br"}


@dataclass
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def text(self) -> str:
        """All text in it, blanks made one."""
        pieces = [child if isinstance(child, str) else child.text() for child in self.children]
        return " ".join(" ".join(pieces).split())

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """The elements in it with that tag and those attributes (`css` for a class)."""
        found: list[Element] = []
        for child in self.children:
            if isinstance(child, Element):
                css = attributes.get("css")
                rest = {name: value for name, value in attributes.items() if name != "css"}
                if (
                    child.tag == tag
                    and (css is None or css in child.attributes.get("class", "").split())
                    and all(child.attributes.get(name) == value for name, value in rest.items())
                ):
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def one(self, tag: str, **attributes: str) -> Element:
        """The only such element."""
        (element,) = self.all(tag, **attributes)
        return element

    def rows(self) -> list[list[str]]:
        """The texts of a table's body, row by row."""
        cells = [[cell for cell in row.children if isinstance(cell, Element)] for row in self.one("tbody").all("tr")]
        return [[cell.text() for cell in row] for row in cells]

    def column(self, head: str) -> list[str]:
        """The texts below one head of a table."""
        heads = [cell.text().rstrip(" ▲▼") for cell in self.one("thead").all("th")]
        return [row[heads.index(head)] for row in self.rows()]


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open[-1].tag == tag, f"</{tag}> ends <{self.open[-1].tag}>"
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(text: str) -> Element:
    """A page as a tree; every element must be closed in its turn."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == [reader.root], f"<{reader.open[-1].tag}> is not closed"
    return reader.root


def page(protocol: Protocol, url: str, status: int = 200) -> Element:
    """A page of the server."""
    answer: httpx.Response = protocol.http.get(url)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return parse(answer.text)


def fill_sweep(protocol: Protocol, runs: int = 20) -> str:
    """A random sweep whose loss grows with the distance of lr from 0.01, under way; returns its id."""
    sweep = protocol.create_sweep(
        method="random",
        name="tuned",
        metric={"name": "val/loss", "goal": "minimize"},
        run_cap=2 * runs,
        parameters={
            "lr": {"distribution": "log_uniform_values", "min": 0.0001, "max": 1.0},
            "optimizer": {"values": ["adam", "sgd"]},
            "layers": {"values": [1, 2, 3]},
            "epochs": {"value": 3},
        },
    )
    agents = [protocol.agent(sweep) for _ in range(2)]
    for number in range(runs):
        order = protocol.take_run(agents[number % 2])
        run, args = order["run_id"], {name: entry["value"] for name, entry in order["args"].items()}
        protocol.start_run(run, host=f"node{number % 2}")
        loss = abs(math.log10(args["lr"]) + 2) + (args["optimizer"] == "sgd") / 10 + args["layers"]
        protocol.log(run, [{"_step": step, "val/loss": loss + 1 / (step + 1), "epoch": step} for step in range(30)])
        if number < runs - 1:
            exit_code = 1 if number == 0 else 0
            protocol.finish(run, exit_code, {"val/loss": loss, "accuracy": 1 / loss, "_runtime": 10 * number})
    return sweep


# What would run, break a page apart or turn it around if it were written as it is.
NASTY = (
    "</title><script>alert(1)</script>",
    '"onmouseover="alert(2)',
    "'><img src=x onerror=alert(3)>",
    "\u202ereversed مرحبا & {{ 7 * 7 }}",
)


def fill_nasty(protocol: Protocol) -> tuple[str, str]:
    """A sweep and a run with such names everywhere; returns their ids."""
    sweep = protocol.create_sweep(
        method="grid",
        name=NASTY[0],
        description=NASTY[1],
        metric={"name": NASTY[2], "goal": "maximize"},
        parameters={NASTY[0]: {"values": [1, 2, 3]}, NASTY[3]: {"values": [NASTY[1], NASTY[2]]}},
    )
    agent = protocol.agent(sweep)
    run = ""
    for number in range(6):
        order = protocol.take_run(agent)
        run = order["run_id"]
        protocol.start_run(run, host=NASTY[0])
        protocol.log(run, [{"_step": step, NASTY[2]: step * number, NASTY[1]: 1} for step in range(5)])
        lines = [*NASTY, "\x1b[31mred\x1b[0m \x1b]0;title\x07plain", "50%\r100%", "a\x00b"]
        events = [json.dumps({"_runtime": 15.0 * row, f"system.{NASTY[1]}": row}) for row in range(3)]
        protocol.stream(
            run,
            files={
                "output.log": {"offset": 0, "content": lines},
                "wandb-events.jsonl": {"offset": 0, "content": events},
            },
        )
        protocol.finish(run, summary={NASTY[2]: number, NASTY[3]: {"nested": "\\ud800"}})
    protocol.data(
        "mutation UpsertBucket($name: String, $project: String, $entity: String, $notes: String, $tags: [String!],"
        " $displayName: String, $config: JSONString, $groupName: String) { upsertBucket(input: {name: $name,"
        " modelName: $project, entityName: $entity, notes: $notes, tags: $tags, displayName: $displayName,"
        " config: $config, groupName: $groupName}) { bucket { id } } }",
        name=run,
        project=protocol.project,
        entity=protocol.entity,
        notes=NASTY[2],
        tags=list(NASTY),
        displayName=NASTY[2],
        groupName=NASTY[1],
        # Half of a pair: JSON can spell it, UTF-8 cannot hold it.
        config=json.dumps({NASTY[0]: {"value": NASTY[2]}, "half": {"value": "\ud800"}}),
    )
    protocol.http.put(f"/storage/{protocol.entity}/{protocol.project}/{run}/a <b> & '\".txt", content=b"x")
    return sweep, run
