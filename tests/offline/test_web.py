"""The web page: what its pages say, and how a browser shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from offline.browser import Browser
from offline.clients import HEARTBEAT, Protocol, Wandb
from offline.pages import NASTY, fill_nasty, fill_sweep, page

from wandb_submit.server.control.lifecycle import ServerInfo

SWEEP = "/local/web/sweeps/"


@pytest.fixture(scope="module")
def web(server: ServerInfo) -> Iterator[Protocol]:
    """Speaks to the shared server, in a project of its own."""
    with Protocol(server, project="web") as client:
        yield client


@pytest.fixture(scope="module")
def tuned(web: Protocol) -> str:
    """A sweep under way."""
    return fill_sweep(web)


@pytest.fixture(scope="module")
def nasty(web: Protocol) -> tuple[str, str]:
    """A sweep and a run whose names are attacks."""
    return fill_nasty(web)


def best(web: Protocol, sweep: str) -> tuple[str, float]:
    losses = {
        name: json.loads(run["summaryMetrics"]).get("val/loss", float("inf"))
        for name, run in web.runs(sweep).items()
        if run["state"] != "failed"
    }
    name = min(losses, key=losses.__getitem__)
    return name, losses[name]


def test_the_first_page_lists_sweeps_with_their_progress(web: Protocol, tuned: str) -> None:
    row = next(row for row in page(web, "/").one("section", id="sweeps").all("tr") if row.all("a", href=SWEEP + tuned))
    assert "tuned" in row.text()
    assert "18 of 40 finished, 1 running, 1 failed" in row.text()
    assert f"{best(web, tuned)[1]:.5g}" in row.text()
    widths = {part.attributes["class"]: float(part.attributes["width"]) for part in row.all("rect")}
    assert widths == {"track": 100, "finished": 45, "failed": 2.5, "running": 2.5}


def test_a_sweeps_page_tells_all_about_it(web: Protocol, tuned: str) -> None:
    shown = page(web, SWEEP + tuned)
    name, loss = best(web, tuned)
    head = shown.one("section", css="head")
    assert f"Best val/loss {loss:.5g}" in head.text()
    assert head.all("a", href=f"/local/web/runs/{name}")
    assert "log_uniform_values" in head.one("pre").text()
    titles = [caption.text() for caption in shown.all("figcaption")]
    assert titles == [
        "Best so far",
        "val/loss of the best runs",
        "Which parameters go with val/loss",
        "Parallel coordinates",
        *(f"val/loss against {name}" for name in ("layers", "lr", "optimizer")),
    ]
    agents = shown.one("section", id="agents").one("table")
    assert agents.column("Runs ended") == ["10", "9"] or agents.column("Runs ended") == ["9", "10"]
    assert agents.column("State") == ["running", "running"]
    assert len(agents.all("a")) == 1


def test_an_agent_that_tells_its_device_is_shown_with_it(web: Protocol) -> None:
    sweep = web.create_sweep(method="grid", parameters={"x": {"values": [1]}})
    agents = [web.agent(sweep) for _ in range(4)]
    told = [{"gpus": "0,1", "cpus": 4}, {"cpus": 1}, {}, {"gpus": ["<b>"], "cpus": "x"}]
    for agent, metrics in zip(agents, told, strict=True):
        web.data(HEARTBEAT, id=agent, metrics=json.dumps(metrics), runState="{}")
    # What it has told holds until it tells something else.
    web.heartbeat(agents[0])
    table = page(web, SWEEP + sweep).one("section", id="agents").one("table")
    devices = dict(zip(table.column("Agent"), table.column("Device"), strict=True))
    assert [devices[agent] for agent in agents] == ["GPU 0,1, 4 CPUs", "1 CPU", "", ""]


def test_charts_draw_every_run_and_name_it(web: Protocol, tuned: str) -> None:
    shown = page(web, SWEEP + tuned)
    progress, curves, _importance, parallel, *scatters = shown.all("figure")
    assert len(progress.all("circle")) == 19
    # The best so far never gets worse: the line only goes down, which in a drawing is up to larger numbers.
    heights = [float(word.split("H")[0]) for word in progress.one("path", css="best").attributes["d"].split("V")[1:]]
    assert heights == sorted(heights)
    assert len(curves.one("ul").all("li")) == len(curves.one("svg", role="img").all("path", css="curve")) == 8
    assert len(parallel.all("path", css="line")) == 19
    assert [len(figure.all("circle")) for figure in scatters] == [19, 19, 19]
    lr = scatters[1]
    assert [tick for tick in ("0.0001", "0.01", "1") if tick in lr.text()] == ["0.0001", "0.01", "1"]
    name, loss = best(web, tuned)
    assert f"val/loss = {loss:.5g}" in lr.one("circle", css="top").text()
    assert lr.all("a", href=f"/local/web/runs/{name}")


def test_importance_says_which_parameter_decides(web: Protocol, tuned: str) -> None:
    (table,) = page(web, SWEEP + tuned).all("table", css="importance")
    assert table.column("Parameter")[0] == "layers"
    names = [row[0] for row in table.rows()]
    rows = {row[0]: row for row in table.rows()}
    assert names[0] == "layers"
    assert float(rows["layers"][2]) > 0.4
    assert float(rows["layers"][3]) > 0.4
    assert rows["optimizer"][3] == ""
    assert float(rows["layers"][2]) == max(float(row[2]) for row in rows.values())


def test_a_click_on_a_head_sorts_the_runs(web: Protocol, tuned: str) -> None:
    def column(head: str, url: str) -> list[str]:
        return page(web, url).one("section", id="runs").one("table").column(head)

    def click(head: str, url: str) -> str:
        cells = page(web, url).one("section", id="runs").one("thead").all("th")
        (link,) = (cell.one("a") for cell in cells if cell.text().rstrip(" ▲▼") == head)
        return SWEEP + tuned + link.attributes["href"]

    for head in ("val/loss", "accuracy", "lr", "layers"):
        up = click(head, SWEEP + tuned)
        values = [float(value) for value in column(head, up) if value]
        assert values == sorted(values)
        assert len(set(values)) > 1
        down = click(head, up)
        assert [float(value) for value in column(head, down) if value] == values[::-1]
        sorted_heads = page(web, down).all("th", **{"aria-sort": "descending"})
        assert [cell.text() for cell in sorted_heads] == [f"{head} ▼"]
    # A run without the value comes last both ways.
    assert column("val/loss", click("val/loss", SWEEP + tuned))[-1] == ""
    assert column("val/loss", click("val/loss", click("val/loss", SWEEP + tuned)))[-1] == ""
    assert column("optimizer", click("optimizer", SWEEP + tuned)) == sorted(column("optimizer", SWEEP + tuned))


def test_another_metric_can_be_looked_at(web: Protocol, tuned: str) -> None:
    shown = page(web, SWEEP + tuned + "?metric=accuracy&goal=maximize")
    name, loss = best(web, tuned)
    assert f"Best accuracy {1 / loss:.5g}" in shown.one("section", css="head").text()
    assert shown.one("section", css="head").all("a", href=f"/local/web/runs/{name}")
    assert [option.text() for option in shown.all("option", selected="")] == ["accuracy", "higher"]
    # Sorting keeps the choice.
    assert "metric=accuracy" in shown.one("section", id="runs").one("thead").all("a")[0].attributes["href"]
    assert page(web, SWEEP + tuned + "?metric=nothing").text().count("No run has a value of nothing yet.") == 1


def test_a_runs_page_tells_all_about_it(web: Protocol, tuned: str) -> None:
    name, loss = best(web, tuned)
    metadata = {"gpu": "NVIDIA H100", "gpu_count": 2, "cpu_count": 8, "cpu_count_logical": 16}
    web.http.put(f"/storage/local/web/{name}/wandb-metadata.json", content=json.dumps(metadata))
    events = [
        {"_runtime": 15.0 * row, "system.gpu.0.gpu": 50 + row, "system.gpu.1.gpu": 60, "system.cpu": row}
        for row in range(9)
    ]
    lines = [f"line {number}" for number in range(300)]
    files = {
        "wandb-events.jsonl": {"offset": 0, "content": [json.dumps(event) for event in events]},
        "output.log": {"offset": 0, "content": lines},
    }
    web.stream(name, files=files)
    shown = page(web, f"/local/web/runs/{name}")
    head = shown.one("section", css="head").text()
    assert "2 x NVIDIA H100, 16 CPUs" in head
    assert "Exit code 0" in head
    config, summary = shown.one("section", id="values").all("table")
    assert ["epochs", "3"] in config.rows()
    assert ["val/loss", f"{loss:.5g}"] in summary.rows()
    assert [one.text() for one in shown.one("section", id="charts").all("figcaption")] == ["epoch", "val/loss"]
    system = shown.one("section", id="system").all("figure")
    assert [figure.one("figcaption").text() for figure in system] == ["GPU utilization (%)", "CPU of the process (%)"]
    assert [key.text() for key in system[0].one("ul").all("li")] == ["GPU 0", "GPU 1"]
    assert shown.one("section", id="log").one("pre").text().split()[1::2] == [str(number) for number in range(100, 300)]
    link = shown.one("section", id="files").one("a")
    assert web.http.get(link.attributes["href"]).json() == metadata
    # The sweep's page knows from it what the agent computes on.
    agents = page(web, SWEEP + tuned).one("section", id="agents").one("table")
    assert set(agents.column("Device")) <= {"", "2 x NVIDIA H100, 16 CPUs"}


def test_a_long_history_is_thinned_and_no_spike_is_lost(web: Protocol) -> None:
    web.start_run("long")
    rows = [{"_step": step, "loss": 1000.0 if step == 4321 else 1.0, "deep": {"er": step}} for step in range(10_000)]
    web.log("long", rows)
    answer = web.http.get("/local/web/runs/long")
    assert len(answer.content) < 30_000
    deep, loss = page(web, "/local/web/runs/long").one("section", id="charts").all("figure")
    assert [figure.one("figcaption").text() for figure in (deep, loss)] == ["deep.er", "loss"]
    assert loss.one("svg").attributes["aria-label"] == "loss: values from 1 to 1000"


def test_runs_without_a_sweep_are_on_their_projects_page(web: Protocol, tuned: str) -> None:
    web.start_run("alone")
    shown = page(web, "/local/web")
    assert shown.one("section", id="runs").all("a", href="/local/web/runs/alone")
    assert shown.one("section", id="sweeps").all("a", href=SWEEP + tuned)
    assert not [
        link
        for link in shown.one("section", id="runs").all("a")
        if link.attributes["href"] != "" and tuned in link.text()
    ]


def test_nothing_that_clients_send_becomes_markup(web: Protocol, nasty: tuple[str, str]) -> None:
    sweep, run = nasty
    for url in (
        "/",
        "/local/web",
        SWEEP + sweep,
        f"/local/web/runs/{run}",
        f"{SWEEP}{sweep}?sort={quote(NASTY[1])}",
        f"{SWEEP}{sweep}?metric={quote(NASTY[0])}&page=-1&goal=x",
    ):
        shown = page(web, url)
        assert not shown.all("img")
        assert [script.attributes["src"] for script in shown.all("script")] == ["/-/live.js"]
        assert not [name for element in _everything(shown) for name in element.attributes if name.startswith("on")]
        assert not [element for element in _everything(shown) if "style" in element.attributes]
    shown = page(web, f"/local/web/runs/{run}")
    for text in NASTY:
        assert text in [tag.text() for tag in shown.one("ul", css="tags").all("li")]
        assert text in shown.one("section", id="log").one("pre").text()
    log = shown.one("section", id="log").one("pre").text()
    assert log.endswith("red plain 100% ab")
    assert ["half", "\N{REPLACEMENT CHARACTER}"] in shown.one("section", id="values").all("table")[0].rows()
    link = shown.one("section", id="files").one("a")
    assert web.http.get(link.attributes["href"]).content == b"x"


def test_pages_are_for_those_with_the_key(server: ServerInfo, web: Protocol, tuned: str) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as stranger:
        for url in ("/", "/local/web", "/no/such", SWEEP + tuned, "/local/web/runs/long", "/-/style.css", "/-/live.js"):
            for auth in (None, ("api", "wrong"), ("someone", server.api_key)):
                answer = stranger.get(url, auth=auth)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith('Basic realm="wandb-submit"')
                assert "tuned" not in answer.text
        assert stranger.get("/", params={"key": server.api_key}).status_code == 401
    answer = web.http.get("/")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert server.api_key not in answer.text


@pytest.mark.parametrize("url", ["/no/such", "/local/web/sweeps/none", "/local/web/runs/none", "/a/b/sweeps/%3Cb%3E"])
def test_what_is_not_there_is_told_in_a_page(web: Protocol, url: str) -> None:
    shown = page(web, url, status=404)
    assert shown.one("h1").text() == "Not here"
    assert shown.all("a", href="/")


def test_an_address_of_nothing_is_told_in_a_page_to_browsers_alone(server: ServerInfo, web: Protocol) -> None:
    assert web.http.get("/one").text == "Not Found"
    browser = {"accept": "text/html,*/*;q=0.8"}
    assert "There is no such page." in web.http.get("/one", headers=browser).text
    assert httpx.get(f"{server.url}/a/b/c/d/e/f", headers=browser, trust_env=False).status_code == 401


@pytest.mark.client
def test_what_wandb_prints_opens_in_a_browser(web: Protocol, server: ServerInfo, wandb: Wandb) -> None:
    script = """
import json, wandb
run = wandb.init(project="web", name="by wandb", config={"a": {"b": 1}})
run.log({"loss": 1.5, "seen": wandb.Histogram([1, 2, 3])})
artifact = wandb.Artifact("weights", type="model")
with artifact.new_file("w.txt") as file:
    file.write("12345")
run.log_artifact(artifact)
print("a word")
print("RESULT", json.dumps([run.url, run.project_url]))
run.finish()
"""
    url, project_url = wandb.python(script)
    assert page(web, project_url).all("a", href=url.removeprefix(server.url))
    shown = page(web, url)
    assert shown.one("h1").text() == "by wandb finished"
    config, summary = shown.one("section", id="values").all("table")
    assert ["a.b", "1"] in config.rows()
    assert ["seen", "(histogram)"] in summary.rows()
    assert "a word" in shown.one("section", id="log").text()
    assert "CPU" in shown.one("section", css="head").text()
    assert shown.one("section", id="artifacts").rows() == [["weights:v0", "model", "logged it", "1", "5 B"]]


def test_pages_only_read_and_hide_no_part_of_the_api(web: Protocol, tuned: str) -> None:
    assert web.http.post(SWEEP + tuned).status_code == 405
    assert web.http.get("/healthz").json() == {"ok": True}
    assert web.http.get("/graphql").status_code == 405
    assert web.http.get("/storage/local/web/long/none").status_code == 404
    assert web.http.head(SWEEP + tuned).status_code == 200


def test_a_browser_shows_all_pages_well(
    web: Protocol, server: ServerInfo, tuned: str, nasty: tuple[str, str], tmp_path: Path
) -> None:
    urls = [
        "/",
        "/local/web",
        SWEEP + tuned,
        SWEEP + nasty[0],
        f"/local/web/runs/{nasty[1]}",
        f"/local/web/runs/{best(web, tuned)[0]}",
    ]
    browser = Browser(tmp_path, ("api", server.api_key))
    try:
        for url in urls:
            for width, dark in ((1280, False), (400, True)):
                browser.show(width, dark=dark)
                browser.open(server.url + url)
                assert browser.problems == [], url
                assert browser.ask("document.documentElement.scrollWidth") == width, url
                assert browser.ask(_STRAYS) == [], url
                sizes = browser.ask(_SIZES)
                assert all(size > 50 for size in sizes), url
                background = browser.ask("getComputedStyle(document.body).backgroundColor")
                assert (background == "rgb(18, 22, 28)") == dark
        assert browser.origins() == {server.url}
        assert browser.ask("window.alerted === undefined")
    finally:
        browser.close()


_SIZES = """
[...document.querySelectorAll("figure svg")].map(e => e.getBoundingClientRect()).map(box => box.width * box.height)
"""
# Elements that stick out of the page and cannot be reached by scrolling their own region.
_STRAYS = """
[...document.querySelectorAll("main *")]
  .filter(e => !e.closest(".scroll, pre, svg, select") && e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.outerHTML.slice(0, 80))
"""


def test_a_live_page_brings_itself_up_to_date(web: Protocol, server: ServerInfo, tuned: str, tmp_path: Path) -> None:
    browser = Browser(tmp_path, ("api", server.api_key))
    try:
        browser.show(1280)
        browser.open(server.url + SWEEP + tuned)
        browser.ask("document.querySelector('details').open = true")
        agent = web.agent(tuned)
        run = web.take_run(agent)["run_id"]
        browser.ask("refresh()")
        assert browser.ask(f"document.body.textContent.includes('{agent}')")
        assert browser.ask(f"document.querySelector('#agents a[href$=\"{run}\"]') !== null")
        assert browser.ask("document.querySelector('details').open")
        assert browser.problems == []
    finally:
        browser.close()


def _everything(element):
    for child in element.children:
        if not isinstance(child, str):
            yield child
            yield from _everything(child)


@pytest.mark.client
def test_alerts_are_kept_and_shown(server: ServerInfo, web: Protocol, wandb: Wandb) -> None:
    run = wandb.python("""
import json, wandb
with wandb.init(project="web") as run:
    run.alert("loss is <high>", text="loss = 3", level="WARN")
    run.alert("loss is <high>", text="too soon after the first")
    run.alert("loss is <high>", text="loss = 4", wait_duration=0.001)
print("RESULT", json.dumps(run.id))
""")
    shown = page(web, f"/local/web/runs/{run}").one("section", id="alerts").text()
    assert shown.count("loss is <high>") == 2
    assert "loss = 3" in shown
    assert "loss = 4" in shown
    assert "WARN" in shown
    assert "too soon" not in shown
    assert f"run {run} alerts (WARN): 'loss is <high>': 'loss = 3'" in (server.data_dir / "server.log").read_text()
