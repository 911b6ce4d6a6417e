"""Tables, images and other media, models, code and files of runs with the unmodified wandb client."""

from __future__ import annotations

import pytest
from offline.clients import Wandb

pytestmark = pytest.mark.client

MEDIA = """
import json, pathlib, numpy, wandb

def picture(value):
    return wandb.Image(numpy.full((4, 4, 3), value, numpy.uint8), caption=f"all {value}")

def pixels(image):
    return [int(image.image.getpixel((0, 0))[0]), *image.image.size]

pathlib.Path("code.py").write_text("print(1)")
pathlib.Path("model.bin").write_bytes(b"weights")
seen = {}
with wandb.init(project="media", id="logs") as run:
    table = wandb.Table(columns=["n", "picture"], data=[[1, picture(11)], [2, picture(12)]])
    html, histogram = wandb.Html("<b>x</b>"), wandb.Histogram([1, 2, 3, 3])
    pictures = [picture(8), picture(9)]
    run.log({"picture": picture(7), "pictures": pictures, "table": table, "html": html, "histogram": histogram})
    points = wandb.Table(columns=["x", "y"], data=[[1, 2], [2, 3]])
    run.log({"plot": wandb.plot.line(points, "x", "y")})
    seen["code"] = run.log_code(".", name="code").wait().name
    artifact = wandb.Artifact("tables", type="dataset")
    artifact.add(wandb.Table(columns=["n"], data=[[1], [2]]), "numbers")
    artifact.add(picture(5), "five")
    run.log_artifact(artifact).wait()
    other = wandb.Artifact("other", type="dataset")
    other.add_reference(artifact.get_entry("numbers.table.json"), "numbers.table.json")
    run.log_artifact(other).wait()
    run.log_model("model.bin", name="model")
    pathlib.Path("more").mkdir()
    pathlib.Path("more/saved.txt").write_text("saved")
    run.save("more/saved.txt", policy="now")

with wandb.init(project="media", id="uses") as run:
    artifact = run.use_artifact("tables:latest")
    seen["numbers"] = artifact.get("numbers").data
    seen["five"] = pixels(artifact.get("five"))
    seen["reference"] = run.use_artifact("other:latest").get("numbers").data
    seen["model"] = pathlib.Path(run.use_model("model:latest")).read_text()
    run.link_model("model.bin", "registered", name="model")

for part in range(2):
    with wandb.init(project="media", id=f"part{part}", group="parts") as run:
        artifact = wandb.Artifact("parts", type="dataset")
        with artifact.new_file(f"{part}.txt") as file:
            file.write(str(part))
        run.upsert_artifact(artifact, distributed_id="parts")
with wandb.init(project="media", id="parts", group="parts") as run:
    run.finish_artifact(wandb.Artifact("parts", type="dataset"), distributed_id="parts").wait()
    for turn in range(2):
        artifact = wandb.Artifact("grows", type="dataset", incremental=True)
        with artifact.new_file(f"{turn}.txt") as file:
            file.write(str(turn))
        run.log_artifact(artifact).wait()

api = wandb.Api()
for name in ("parts", "grows"):
    artifact = api.artifact(f"local/media/{name}:latest")
    seen[name] = [artifact.version, sorted(artifact.manifest.entries), artifact.digest == artifact.manifest.digest()]
linked = api.artifact("local/model-registry/registered:latest")
seen["linked model"] = [linked.source_name, linked.type]

run = api.run("local/media/logs")
table = api.artifact("local/media/run-logs-table:latest").get("table")
seen["run's table"] = [[n, pixels(picture)] for n, picture in table.data]
seen["artifacts"] = sorted([one.name, one.type] for one in run.logged_artifacts())
seen["types"] = {key: run.summary[key]["_type"] for key in ("picture", "pictures", "table", "html", "histogram")}
seen["caption"] = run.summary["picture"]["caption"]
paths = [run.summary["picture"]["path"], *run.summary["pictures"]["filenames"], run.summary["html"]["path"]]
for path in paths:
    run.file(path).download("media")
seen["pictures"] = [pixels(wandb.Image(f"media/{path}")) for path in paths[:3]]
seen["html"] = "<b>x</b>" in pathlib.Path("media", paths[3]).read_text()
seen["saved"] = run.file("more/saved.txt").download("back").read()

pathlib.Path("up.txt").write_text("up")
seen["uploaded"] = [run.upload_file("up.txt").name, run.file("up.txt").download("again").read()]
run.file("up.txt").delete()
run.file("more/saved.txt").delete()
seen["deleted"] = [file.name for file in run.files() if "up" in file.name or "more" in file.name]
pathlib.Path("sub").mkdir()
pathlib.Path("sub/more").write_text("a file where a folder was")
run.upload_file("sub/more", root="sub")
seen["in its place"] = run.file("more").download("again").read()
try:
    api.artifact("local/media/tables:latest").link("wandb-registry-model/x")
except Exception as error:
    seen["registry"] = str(error)
run.delete(delete_artifacts=True)
seen["gone"] = [api.artifact_exists(f"local/media/{name}:latest") for name in ("tables", "run-logs-table", "parts")]
print("RESULT", json.dumps(seen))
"""


def test_media_tables_code_models_and_files_come_back(wandb: Wandb):
    seen = wandb.python(MEDIA)
    assert "organization" in seen.pop("registry")
    assert seen == {
        "code": "code:v0",
        "numbers": [[1], [2]],
        "five": [5, 4, 4],
        "reference": [[1], [2]],
        "model": "weights",
        "parts": ["v0", ["0.txt", "1.txt"], True],
        "grows": ["v1", ["0.txt", "1.txt"], True],
        "linked model": ["model:v0", "model"],
        "run's table": [[1, [11, 4, 4]], [2, [12, 4, 4]]],
        "artifacts": [
            ["code:v0", "code"],
            ["model:v0", "model"],
            ["other:v0", "dataset"],
            ["run-logs-plot_table:v0", "run_table"],
            ["run-logs-table:v0", "run_table"],
            ["tables:v0", "dataset"],
        ],
        "types": {
            "picture": "image-file",
            "pictures": "images/separated",
            "table": "table-file",
            "html": "html-file",
            "histogram": "histogram",
        },
        "caption": "all 7",
        "pictures": [[7, 4, 4], [8, 4, 4], [9, 4, 4]],
        "html": True,
        "saved": "saved",
        "uploaded": ["up.txt", "up"],
        "deleted": [],
        "in its place": "a file where a folder was",
        "gone": [False, False, True],
    }
