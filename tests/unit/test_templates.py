from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from wandb_submit.errors import ConfigError, NotFoundError
from wandb_submit.options import templates
from wandb_submit.system import mappings


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that WANDB_SUBMIT_TEMPLATES names."""
    folder = tmp_path / "site templates"
    folder.mkdir()
    monkeypatch.setenv("WANDB_SUBMIT_TEMPLATES", str(folder))
    return folder


def in_config_home(home: Path, name: str, text: str) -> None:
    folder = home / ".config" / "wandb-submit" / "templates"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_the_packaged_templates_can_be_named_and_say_what_they_are_for() -> None:
    packaged = {path.stem for path in templates.packaged().glob("*.yaml")}
    assert packaged == set(templates.available())
    assert {"cpu", "single-gpu", "whole-node"} < packaged
    for name, path in templates.available().items():
        assert templates.load(name)
        assert templates.description(path).endswith(".")


def test_every_key_of_a_packaged_template_has_a_comment() -> None:
    for path in templates.packaged().glob("*.yaml"):
        lines = path.read_text().splitlines()
        for before, line in itertools.pairwise(lines):
            if re.match(r"[a-z]", line):
                assert " # " in line or before.startswith("# "), f"{path.name}: {line}"


def test_ones_own_template_hides_a_packaged_one_of_that_name(home: Path) -> None:
    in_config_home(home, "cpu.yaml", "mem: 1G")
    assert templates.load("cpu") == {"mem": "1G"}


def test_the_named_folder_hides_ones_own(home: Path, named: Path) -> None:
    in_config_home(home, "cpu.yaml", "mem: 1G")
    (named / "cpu.yaml").write_text("mem: 2G")
    assert templates.load("cpu") == {"mem": "2G"}
    assert templates.available()["cpu"] == named / "cpu.yaml"
    assert "single-gpu" in templates.available()


def test_the_configuration_folder_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert tmp_path / "wandb-submit" / "templates" in templates.search_path()


def test_a_template_can_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("mem: 3G")
    assert templates.load(str(tmp_path / "mine.yml")) == {"mem": "3G"}


def test_times_are_read_as_they_are_written(named: Path) -> None:
    (named / "t.yaml").write_text("time: 4:00:00\narray: 010\nexecutor: no\n")
    assert templates.load("t") == {"time": "4:00:00", "array": "010", "executor": "no"}


def test_a_misspelt_name_brings_the_one_that_was_meant() -> None:
    with pytest.raises(NotFoundError, match=r"no template 'singel-gpu'; did you mean 'single-gpu'\?"):
        templates.load("singel-gpu")


def test_a_name_like_no_other_brings_the_list() -> None:
    with pytest.raises(NotFoundError, match=r"there are: apptainer, .*, cpu, .*, single-gpu, "):
        templates.load("zzzzzz")


@pytest.mark.parametrize("name", ["nowhere.yaml", "", "."])
def test_a_file_that_is_not_there_is_not_found(name: str) -> None:
    with pytest.raises(NotFoundError, match=re.escape(repr(name))):
        templates.load(name)


def test_malformed_yaml_is_located_by_line_and_column(named: Path) -> None:
    (named / "bad.yaml").write_text("mem: 1G\ntime: [1, 2\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml, line 3, column 1 is not valid YAML: .+"):
        templates.load("bad")


@pytest.mark.parametrize(
    ("content", "kind"), [("", "nothing"), ("- a\n", "a list"), ("word", "a text"), ("# only a comment", "nothing")]
)
def test_what_is_no_mapping_is_called_what_it_is(content: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(content)
    with pytest.raises(ConfigError, match=f"holds {kind}, not a mapping"):
        mappings.read_mapping(tmp_path / "f.yaml", "sweep")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xff\xfe\xff", id="no text"),
        pytest.param(b"a: \x00", id="a control character"),
        pytest.param(b"a: {[1]: 2}", id="an unhashable key"),
        pytest.param(b"a: !!python/object:os.system {}", id="an object"),
        pytest.param(b"day: 2024-13-45", id="a date that is none"),
        pytest.param(b"a: *nobody", id="an alias of nothing"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_configuration_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"the sweep file .*f\.yaml"):
        mappings.read_mapping(tmp_path / "f.yaml", "sweep")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the sweep file"):
        mappings.read_mapping(tmp_path, "sweep")


def test_keys_are_text_whatever_yaml_makes_of_them(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("1: a\noff: b\n")
    assert mappings.read_mapping(tmp_path / "f.yaml", "sweep") == {"1": "a", "False": "b"}


def test_later_templates_win_and_their_sbatch_options_are_joined() -> None:
    first = {"mem": "1G", "time": "10", "sbatch": {"nice": "1", "comment": "a"}}
    second = {"mem": "2G", "sbatch": {"comment": "b", "licenses": "x"}}
    assert templates.merge([first, second]) == {
        "mem": "2G",
        "time": "10",
        "sbatch": {"nice": "1", "comment": "b", "licenses": "x"},
    }
    assert first["sbatch"] == {"nice": "1", "comment": "a"}


def test_the_commands_of_templates_are_joined_in_order() -> None:
    assert templates.merge([{"setup": ["a"]}, {"setup": ["b", "a"]}]) == {"setup": ["a", "b", "a"]}


def test_several_folders_can_be_named(tmp_path: Path, named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SUBMIT_TEMPLATES", f"{named}:{tmp_path}:")
    (tmp_path / "cpu.yaml").write_text("mem: 5G")
    (tmp_path / "mine.yaml").write_text("mem: 6G")
    (named / "cpu.yaml").write_text("mem: 7G")
    assert (templates.load("cpu"), templates.load("mine")) == ({"mem": "7G"}, {"mem": "6G"})
    assert Path() not in templates.search_path()


def test_a_file_needs_no_suffix_where_it_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("mem: 3G")
    assert templates.load(str(tmp_path / "site")) == {"mem": "3G"}


def test_a_template_that_cannot_be_read_has_no_description(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_bytes(b"# \xff\n")
    assert templates.description(tmp_path / "odd.yaml") == ""
    with pytest.raises(ConfigError, match="cannot read"):
        templates.text(tmp_path / "odd.yaml")


def test_nothing_merges_to_nothing() -> None:
    assert templates.merge([]) == {}
