from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wandb_submit.errors import ConfigError
from wandb_submit.options import values
from wandb_submit.spec import ArraySpec, SweepRef

small = st.integers(min_value=0, max_value=59)
positive = st.integers(min_value=1, max_value=10_000)


def minutes(seconds: int) -> int:
    return (seconds + 59) // 60


@pytest.mark.parametrize(
    ("text", "count", "parallel", "at_once"),
    [
        *[("1", 1, None, 1), ("8", 8, None, 8), ("8%2", 8, 2, 2), ("2%8", 2, 8, 2), (" 4 ", 4, None, 4)],
        *[("0-15%4", 16, 4, 4), ("1-8", 8, None, 8), ("0-30:10", 4, None, 4), ("1,3,5-7", 5, None, 5)],
        *[("3-3", 1, None, 1), ("1,1-2,2", 2, None, 2)],
    ],
)
def test_an_array_is_a_number_of_tasks_and_how_many_run_at_once(
    text: str, count: int, parallel: int | None, at_once: int
) -> None:
    array = ArraySpec.parse(text)
    assert (array.count, array.parallel, array.at_once) == (count, parallel, at_once)


@pytest.mark.parametrize(
    "text",
    [
        *["", "0", "4%0", "-1", "4%", "%4", "4%2%1", "four", "1.5", "4 % 2"],
        *["0-", "7-0", "1,,2", "0-7:0", "0-7:", "1-2-3", "1:2", "0-99999999999", "99999999999"],
    ],
)
def test_what_is_no_array_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(repr(text))):
        ArraySpec.parse(text)


def test_a_range_of_indices_that_goes_backwards_is_named() -> None:
    with pytest.raises(ConfigError, match="in 7-5 the first index is above the last"):
        ArraySpec.parse("1-3,7-5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (None, 0)),
        ("2", (None, 2)),
        ("a100:1", ("a100", 1)),
        (" nvidia_h100-80gb.mig:2 ", ("nvidia_h100-80gb.mig", 2)),
    ],
)
def test_gpus_may_have_a_type(text: str, expected: tuple[str | None, int]) -> None:
    assert values.gpus("--gpus-per-task", text) == expected


@pytest.mark.parametrize("text", ["", "-1", "a100", "a100:", ":1", "a100:x", "1.5", "gpu:a100:1", "a100:1,v100:1"])
def test_what_is_no_number_of_gpus_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(repr(text))):
        values.gpus("--gpus-per-task", text)


@given(count=positive, parallel=st.none() | positive)
def test_an_array_is_written_as_it_is_read(count: int, parallel: int | None) -> None:
    array = ArraySpec(count=count, parallel=parallel)
    assert ArraySpec.parse(str(array)) == array


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90:00", 90),
        ("1:30", 2),
        ("0:01", 1),
        ("4:00:00", 240),
        ("0:00:59", 1),
        ("36:00:00", 2160),
        ("1-23:59:59", 2880),
        ("1-0", 1440),
        ("1-12", 2160),
        ("2-00:30", 2910),
        ("1-00:00:01", 1441),
        ("7-00:00:00", 10080),
        (" 30 ", 30),
    ],
)
def test_a_time_limit_is_read_in_each_of_sbatchs_formats(text: str, expected: int) -> None:
    assert values.time_min("--time", text) == expected


@pytest.mark.parametrize("text", ["UNLIMITED", "infinite", "-1"])
def test_a_limit_may_be_none(text: str) -> None:
    assert values.limit_min("--time", text) is None
    assert values.limit_min("--time", "90") == 90


@pytest.mark.parametrize(
    ("text", "right"),
    [
        *[("25:61:00", "1-02:01:00"), ("0:00:61", "0:01:01"), ("1:90", "0:02:30"), ("1-24", "2-00:00:00")],
        *[("5m", "0:05:00"), ("4h", "4:00:00"), ("1h30m", "1:30:00"), ("1.5 hours", "1:30:00"), ("2d", "2-00:00:00")],
    ],
)
def test_a_limit_that_is_none_is_refused_with_what_is_meant(text: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"^--time '{re.escape(text)}'.* {right}"):
        values.limit_min("--time", text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60), (".5", 0.5), ("90s", 90), ("5m", 300), ("1.5 h", 5400), ("2min", 120), ("0", 0)]
)
def test_a_number_of_seconds_may_have_a_unit(text: str, seconds: float) -> None:
    assert values.seconds("--grace", text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "1e400", "5x", "5:00", "soon", "m"])
def test_what_is_no_number_of_seconds_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^--grace {re.escape(repr(text))} is not a number of seconds: .* 90s, 5m or 1h"
    ):
        values.seconds("--grace", text)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("16Gi", "16G"),
        ("16GiB", "16G"),
        ("1.5G", "1536M"),
        ("16 g", "16G"),
        ("lots", "for example 16G"),
        ("-1", "for ex"),
    ],
)
def test_what_is_no_size_is_refused_with_what_is_meant(text: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"^--mem '{text}' is not a memory size: write {right}"):
        values.memory("--mem", text)


@pytest.mark.parametrize("text", ["", "0", "0:00", "0-0", "-5", "1h", "1:2:3:4", "1-", "1-2:3:4:5", ":30", "4.5", "a"])
def test_what_is_no_time_limit_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(repr(text))):
        values.time_min("--time", text)


@given(hours=positive, minute=small, second=small)
def test_hours_minutes_and_seconds_add_up(hours: int, minute: int, second: int) -> None:
    assert values.time_min("--time", f"{hours}:{minute:02}:{second:02}") == minutes(hours * 3600 + minute * 60 + second)


@given(days=positive, hours=st.integers(0, 23), minute=small, second=small)
def test_days_stand_before_hours_in_every_length(days: int, hours: int, minute: int, second: int) -> None:
    whole = (days * 24 + hours) * 3600
    assert values.time_min("--time", f"{days}-{hours}") == minutes(whole)
    assert values.time_min("--time", f"{days}-{hours}:{minute}") == minutes(whole + minute * 60)
    assert values.time_min("--time", f"{days}-{hours}:{minute}:{second}") == minutes(whole + minute * 60 + second)


@given(minute=positive, second=small)
def test_one_colon_separates_minutes_from_seconds(minute: int, second: int) -> None:
    assert values.time_min("--time", f"{minute}:{second:02}") == minutes(minute * 60 + second)
    assert values.time_min("--time", str(minute)) == minute


@given(text=st.text(alphabet="0123456789:- ", max_size=12))
def test_a_text_is_a_limit_of_at_least_a_minute_or_a_configuration_error(text: str) -> None:
    try:
        limit = values.time_min("--time", text)
    except ConfigError as error:
        problem = str(error)
        limit = None
    assert repr(text) in problem if limit is None else limit >= 1


@pytest.mark.parametrize("text", ["16G", "500M", "2048", "1T", "64g", "16GB", "100K"])
def test_a_memory_size_passes_as_it_was_typed(text: str) -> None:
    assert values.memory("--mem", text) == text


def test_blanks_around_a_memory_size_do_not_reach_sbatch() -> None:
    assert values.memory("--mem", " 16G ") == "16G"


@pytest.mark.parametrize("text", ["", "G", "16 G", "16X", "1.5G", "-1G", "lots"])
def test_what_is_no_memory_size_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(repr(text))):
        values.memory("--mem", text)


def test_a_sweep_is_named_by_entity_project_and_id() -> None:
    assert SweepRef(entity="me", project="vision", id="k3f9", base_url="https://x").path == "me/vision/k3f9"
