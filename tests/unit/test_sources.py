from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wandb_submit.errors import ConfigError, NotFoundError
from wandb_submit.spec import SweepRef
from wandb_submit.wandb_api import names, sweeps
from wandb_submit.wandb_api.names import SweepFile, SweepName

GOOD = "method: grid\nprogram: train.py\nparameters:\n  lr: {values: [1, 2, 3]}\n"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def read(path: Path, text: str) -> SweepFile:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    found = names.parse(str(path))
    assert isinstance(found, SweepFile)
    return found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("k3f9x2ab", SweepName(id="k3f9x2ab")),
        ("vision/k3f9", SweepName(id="k3f9", project="vision")),
        ("me/vision/k3f9", SweepName(id="k3f9", project="vision", entity="me")),
        ("my-team/my project.v2/k3f9", SweepName(id="k3f9", project="my project.v2", entity="my-team")),
    ],
)
def test_a_sweep_is_named_by_its_id_with_or_without_project_and_entity(text: str, name: SweepName) -> None:
    assert names.parse(text) == name


def test_a_name_that_is_too_long_for_a_file_is_still_a_name() -> None:
    assert names.parse(300 * "x") == SweepName(id=300 * "x")
    assert names.parse(300 * "x" + "/k3f9") == SweepName(id="k3f9", project=300 * "x")
    with pytest.raises(NotFoundError, match=r"^no sweep file xxx"):
        names.parse(300 * "x" + ".yaml")


@pytest.mark.parametrize("text", ["", "/", "a//b", "/a", "a/", "a/b/c/d", "a?b", "a:b", "$(id)"])
def test_what_names_no_sweep_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(ConfigError, match="entity/project/id"):
        names.parse(text)


@pytest.mark.parametrize(
    "tail", ["", "/", "?nw=nwuserme", "/workspace?workspace=user-me", "#overview", "?nw=" + 300 * "x"]
)
@pytest.mark.parametrize(
    "host", ["wandb.ai", "forge.coreweave.com", "www.wandb.ai", "acme.wandb.io", "wandb.example:8080"]
)
def test_a_sweeps_url_names_it_whatever_the_browser_put_behind(host: str, tail: str) -> None:
    name = SweepName(id="k3f9", project="vision", entity="me", host=host)
    assert names.parse(f"https://{host}/me/vision/sweeps/k3f9{tail}") == name


def test_a_url_spells_blanks_in_its_own_way() -> None:
    name = names.parse("https://wandb.ai/me/my%20project/sweeps/k3f9")
    assert isinstance(name, SweepName)
    assert name.project == "my project"


@pytest.mark.parametrize(("entity", "project"), [("me", "sweeps"), ("sweeps", "vision"), ("sweeps", "sweeps")])
def test_a_project_or_entity_may_be_called_sweeps(entity: str, project: str) -> None:
    name = names.parse(f"https://wandb.ai/{entity}/{project}/sweeps/k3f9")
    assert name == SweepName(id="k3f9", project=project, entity=entity, host="wandb.ai")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "URL: "),
        ("/me/vision", "URL, but that of a project: "),
        ("/me/vision/runs/k3f9", "URL, but that of a run: "),
        ("/me/vision/sweeps", "URL, but that of a list of sweeps: "),
        ("/me/vision/reports/x--Vml", "URL, but that of a report: "),
        ("/me/vision/table", "URL: "),
        ("/sweeps/k3f9", "URL"),
    ],
)
@pytest.mark.parametrize("scheme", ["https://", ""])
def test_a_url_of_something_else_is_refused(scheme: str, path: str, words: str) -> None:
    if not (scheme or path):
        words = "no sweep file wandb.ai"
    with pytest.raises((ConfigError, NotFoundError), match=words):
        names.parse(f"{scheme}wandb.ai{path}")


@pytest.mark.parametrize("host", ["wandb.ai", "localhost:8080", "acme.wandb.io"])
def test_a_url_may_lack_its_scheme(host: str) -> None:
    name = SweepName(id="k3f9x2ab", project="vision", entity="me", host=host)
    assert names.parse(f"{host}/me/vision/sweeps/k3f9x2ab?nw=x") == name
    assert names.parse(f" https://{host}/me/vision/sweeps/k3f9x2ab\n") == name


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "train.py",
            "train.py is not a sweep, but a Python program: name a sweep YAML file whose `program:` is train.py",
        ),
        ("Explore.ipynb", "is not a sweep, but a notebook: call `wandb_submit.submit"),
        ("job.sh", "is not a sweep, but a shell script: name a sweep YAML file whose `command:` runs job.sh"),
    ],
)
def test_a_program_is_no_sweep(name: str, words: str, there: bool) -> None:
    if there:
        Path(name).write_text("import wandb\n")
    with pytest.raises(ConfigError, match=re.escape(words)):
        names.parse(name)


@pytest.mark.parametrize(
    "text", ["model.pt", "results.json", "configs/sweep.toml", "a/b/c/d/sweep.txt", "sweep.yaml.bak"]
)
def test_the_name_of_a_file_that_is_not_there_is_no_sweeps(text: str) -> None:
    with pytest.raises(NotFoundError, match=f"no sweep file {re.escape(text)}$"):
        names.parse(text)


@pytest.mark.parametrize(
    "text", ["sweep", "Sweep.yaml", "sweep.ymal", "sweep.yam", "sweep.json", "sweeep.yaml", "sweep.yml"]
)
def test_a_slip_in_a_sweep_files_name_is_pointed_out(text: str) -> None:
    Path("configs").mkdir()
    Path("configs/sweep.yaml").touch()
    with pytest.raises(NotFoundError, match=rf"no sweep file configs/{text}: did you mean configs/sweep.yaml\?"):
        names.parse(f"configs/{text}")


def test_what_is_no_text_is_no_sweep_file() -> None:
    Path("model.pt").write_bytes(b"\x80\x02\xff")
    with pytest.raises(ConfigError, match=r"the sweep file model\.pt is not a text: name a YAML file"):
        names.parse("model.pt")


def test_an_id_is_one_though_a_folder_has_that_name() -> None:
    Path("examples").mkdir()
    assert names.parse("examples") == SweepName(id="examples")


@pytest.mark.parametrize("name", ["sweep.yaml", "sweep.yml", "sweep"])
def test_a_sweep_file_is_read_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    (tmp_path / "cwd" / "train.py").write_text("")
    found = read(tmp_path / "cwd" / name, GOOD)
    assert found.config["method"] == "grid"
    assert names.parse(tmp_path / "cwd" / name) == found


@pytest.mark.parametrize("odd", [5, None, ["sweep.yaml"], b"sweep.yaml"])
def test_what_is_neither_a_name_nor_a_file_nor_a_configuration_is_refused(odd: Any) -> None:
    with pytest.raises(ConfigError, match="neither a sweep's name or file nor its configuration as a dictionary"):
        names.parse(odd)


def test_a_yaml_file_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFoundError, match=r"no sweep file nowhere\.yaml"):
        names.parse("nowhere.yaml")


def test_a_file_of_nearly_the_same_name_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").touch()
    with pytest.raises(NotFoundError, match=r"no sweep file .*sweep\.yml: did you mean .*sweep\.yaml\?"):
        names.parse(tmp_path / "sweep.yml")


def test_a_file_of_another_name_is_not(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").touch()
    with pytest.raises(NotFoundError, match=r"no sweep file .*nosuch\.yaml$"):
        names.parse(tmp_path / "nosuch.yaml")


def test_a_folders_sweep_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps"
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"does not name a sweep, but a folder: .* or a sweep YAML file$"):
        names.parse(folder)
    (folder / "lr.yml").touch()
    with pytest.raises(ConfigError, match=r"but a folder: .* or a sweep YAML file, such as .*/sweeps/lr\.yml$"):
        names.parse(f"{folder}/")


@pytest.mark.parametrize("text", [".", "..", "project/..", "me/./abc12345"])
def test_a_folder_is_no_sweep(text: str) -> None:
    with pytest.raises(ConfigError, match="does not name a sweep"):
        names.parse(text)


def test_a_misspelt_key_is_pointed_out(tmp_path: Path) -> None:
    text = "metod: grid\nparameter: {lr: {value: 1}}\nprogram: train.py\n"
    with pytest.raises(ConfigError, match=r"`method:`.*mean it by `metod:`\?; .*`parameters:`.* by `parameter:`\?$"):
        read(tmp_path / "s.yaml", text)


def test_all_that_a_sweep_file_lacks_is_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks `method:`.*lacks `parameters:`.*lacks `program:`"):
        read(tmp_path / "s.yaml", "name: empty\n")


def test_a_command_can_stand_for_a_program(tmp_path: Path) -> None:
    found = read(tmp_path / "s.yaml", "method: random\nparameters: {lr: {value: 1}}\ncommand: [./train, '${args}']\n")
    assert "program" not in found.config


def test_a_program_beside_its_sweep_file_is_found_there(tmp_path: Path) -> None:
    folder = tmp_path / "my sweep"
    folder.mkdir()
    (folder / "train.py").write_text("")
    assert read(folder / "s.yaml", GOOD).config["program"] == str(folder / "train.py")


def test_a_program_in_the_current_folder_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "train.py").write_text("")
    (tmp_path / "cwd" / "train.py").write_text("")
    assert read(folder / "s.yaml", GOOD).config["program"] == "train.py"


def test_a_program_that_is_nowhere_is_refused_before_there_are_runs(tmp_path: Path) -> None:
    with pytest.raises(
        NotFoundError, match=r"s\.yaml wants to run train\.py, but there is no such file in this folder"
    ):
        read(tmp_path / "s.yaml", GOOD)


def test_a_program_that_is_no_file_or_not_what_runs_stays_as_it_is(tmp_path: Path) -> None:
    other = GOOD + "command: [./run.sh, '${args}']\n"
    assert read(tmp_path / "s.yaml", other).config["program"] == "train.py"
    assert read(tmp_path / "s.yaml", GOOD.replace("train.py", "train")).config["program"] == "train"


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"method": "grid", "parameters": {"a": {"values": [1, 2]}, "b": {"values": [1, 2, 3]}}}, 6),
        ({"method": "grid", "parameters": {"a": {"values": [1, 2]}, "b": {"value": 3}}}, 2),
        ({"method": "grid", "parameters": {"a": {"value": None}}}, 1),
        (
            {"method": "grid", "parameters": {"o": {"parameters": {"a": {"values": [1, 2]}, "b": {"values": [1, 2]}}}}},
            4,
        ),
        ({"method": "grid", "run_cap": 4, "parameters": {"a": {"values": [1, 2, 3, 4, 5]}}}, 4),
        ({"method": "grid", "run_cap": 9, "parameters": {"a": {"values": [1, 2]}}}, 2),
        ({"method": "random", "run_cap": 7, "parameters": {"a": {"min": 0, "max": 1}}}, 7),
        ({"method": "random", "parameters": {"a": {"values": [1, 2]}}}, None),
        ({"method": "bayes", "parameters": {"a": {"min": 0, "max": 1}}}, None),
        ({"method": "grid", "parameters": {"a": {"min": 0, "max": 3}}}, None),
        ({"method": "grid", "parameters": {"o": {"parameters": {"a": {"min": 0, "max": 3}}}}}, None),
        ({"method": "grid", "parameters": {"a": 3}}, None),
    ],
)
def test_the_number_of_runs_is_known_where_it_is_bounded(config: dict[str, Any], size: int | None) -> None:
    assert names.grid_size(config) == size


@given(widths=st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_a_grid_is_as_large_as_the_product_of_its_values(widths: list[int]) -> None:
    product = 1
    parameters = {}
    for place, width in enumerate(widths):
        product *= width
        parameters[f"p{place}"] = {"values": list(range(width))}
    assert names.grid_size({"method": "grid", "parameters": parameters}) == product


@pytest.mark.parametrize(
    ("state", "over"), [("RUNNING", False), ("PAUSED", False), ("finished", True), ("CANCELED", True)]
)
def test_a_sweep_is_over_once_it_hands_out_no_more_runs(state: str, over: bool) -> None:
    ref = SweepRef(entity="e", project="p", id="s", base_url="https://x")
    assert sweeps.is_over(sweeps.Sweep(ref=ref, state=state)) is over
