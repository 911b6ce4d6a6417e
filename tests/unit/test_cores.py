"""Which cores there are and in which order they are given out; sysfs is a folder."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wandb_submit.devices import usable_cores
from wandb_submit.devices.cores import cores_near, physical_first, side_by_side, spread, time_quota


def topology(sys: Path, siblings: list[str], nodes: list[str] | None = None) -> Path:
    """A sysfs that says so of the cores 0, 1, … and of the nodes."""
    for core, threads in enumerate(siblings):
        folder = sys / f"devices/system/cpu/cpu{core}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{threads}\n")
    for number, cores in enumerate(nodes or ["0-" + str(len(siblings) - 1)]):
        (sys / f"devices/system/node/node{number}").mkdir(parents=True)
        (sys / f"devices/system/node/node{number}/cpulist").write_text(f"{cores}\n")
    return sys


@pytest.fixture
def xeon(tmp_path: Path) -> Path:
    """Two sockets of two cores, two hyperthreads each, numbered as Intel's servers are."""
    return topology(tmp_path, ["0,4", "1,5", "2,6", "3,7"] * 2, ["0,2,4,6", "1,3,5,7"])


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    """Two cores whose hyperthreads have neighbouring numbers, and two that have none."""
    return topology(tmp_path, ["0-1", "0-1", "2-3", "2-3", "4", "5"])


def test_usable_cores_are_those_of_the_affinity(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    only = max(before)
    os.sched_setaffinity(0, {only})
    try:
        assert usable_cores(proc=tmp_path) == [only]
    finally:
        os.sched_setaffinity(0, before)
    assert sorted(usable_cores(proc=tmp_path)) == sorted(before)


def test_usable_cores_come_physical_ones_first(tmp_path: Path) -> None:
    own = sorted(os.sched_getaffinity(0))
    siblings = [f"{core - core % 2}-{core - core % 2 + 1}" for core in range(max(own) + 1)]
    order = usable_cores(sys=topology(tmp_path, siblings), proc=tmp_path)
    assert order == physical_first(own, sys=tmp_path)
    assert sorted(order) == own


def test_hyperthreads_with_neighbouring_numbers_are_told_apart(laptop: Path) -> None:
    assert physical_first(range(6), sys=laptop) == [0, 2, 4, 5, 1, 3]


def test_a_core_whose_first_hyperthread_is_not_ours_counts_as_one(laptop: Path) -> None:
    assert physical_first([1, 2, 3], sys=laptop) == [1, 2, 3]


def test_neighbours_are_hyperthreads_of_a_core_then_cores_of_a_node(xeon: Path) -> None:
    assert side_by_side(range(8), sys=xeon) == [0, 4, 2, 6, 1, 5, 3, 7]


def test_fewer_cores_than_there_are_lie_on_all_nodes_and_no_two_on_one_core(xeon: Path) -> None:
    assert spread(range(8), 4, sys=xeon) == [0, 2, 1, 3]
    assert spread(range(8), 4, first=2**32 - 1, sys=xeon) == [7, 4, 6, 5]
    assert spread(range(8), 3, first=1, sys=xeon) == [4, 6, 3]
    assert spread(range(8), 8, sys=xeon) == side_by_side(range(8), sys=xeon)


def test_no_more_cores_are_usable_than_there_is_time_for(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/\n")
    limit = tmp_path / "fs/cgroup/cpu.max"
    limit.parent.mkdir(parents=True)
    there = len(os.sched_getaffinity(0))
    for quota in (there + 1, there, there - 0.5, 0.5):
        limit.write_text(f"{int(quota * 1000)} 1000\n")
        own = usable_cores(sys=tmp_path, proc=tmp_path)
        assert len(own) == min(math.ceil(quota), there)
        assert set(own) <= os.sched_getaffinity(0)


def test_a_machine_that_tells_nothing_has_plain_cores(tmp_path: Path) -> None:
    assert physical_first([3, 1], sys=tmp_path) == [1, 3]
    assert side_by_side([3, 1], sys=tmp_path) == [1, 3]
    assert cores_near("0000:01:00.0", tmp_path) == ()
    assert cores_near("", tmp_path) == ()


@pytest.mark.parametrize(
    ("groups", "limits", "quota"),
    [
        ("0::/\n", {"": "200000 100000"}, 2.0),
        ("0::/a.slice/b\n", {"a.slice/b": "max 100000", "a.slice": "150000 100000"}, 1.5),
        ("0::/a.slice/b\n", {"a.slice/b": "50000 100000", "a.slice": "150000 100000"}, 0.5),
        ("0::/a.slice\n", {"a.slice": "max 100000"}, None),
        ("0::/\n", {}, None),
        ("4:cpuset:/a\n", {"": "200000 100000"}, None),
        ("5:cpu,cpuacct:/docker/a\n0::/\n", {"cpu": "400000 100000"}, 4.0),
        ("5:cpuacct,cpu:/a/b\n0::/\n", {"cpu/a/b": "-1 100000", "cpu/a": "150000 100000", "cpu": "-1 100000"}, 1.5),
    ],
)
def test_the_tightest_limit_of_the_cgroups_counts(
    groups: str, limits: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(groups)
    for group, limit in limits.items():
        folder = tmp_path / "fs/cgroup" / group
        folder.mkdir(parents=True, exist_ok=True)
        if group.startswith("cpu"):  # version 1
            for name, value in zip(("quota", "period"), limit.split(), strict=True):
                (folder / f"cpu.cfs_{name}_us").write_text(f"{value}\n")
        else:
            (folder / "cpu.max").write_text(f"{limit}\n")
    found = time_quota(sys=tmp_path, proc=tmp_path)
    assert (found and found.cores) == quota


@given(data=st.data(), threads=st.integers(1, 4), physical=st.integers(1, 8))
def test_no_core_is_lost_and_none_shares_before_it_must(
    data: st.DataObject, threads: int, physical: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    numbers = data.draw(st.permutations(range(threads * physical)))
    groups = [numbers[place * threads : (place + 1) * threads] for place in range(physical)]
    of = {core: place for place, group in enumerate(groups) for core in group}
    sys = topology(
        tmp_path_factory.mktemp("sys"),
        [",".join(map(str, sorted(groups[of[core]]))) for core in range(threads * physical)],
    )
    own = data.draw(st.sets(st.integers(0, threads * physical - 1), min_size=1))
    order = physical_first(sorted(own), sys=sys)
    assert sorted(order) == sorted(own)
    used: dict[int, int] = {}
    turns = [used.update({of[core]: used.get(of[core], 0) + 1}) or used[of[core]] for core in order]
    assert turns == sorted(turns)
    beside = side_by_side(sorted(own), sys=sys)
    assert sorted(beside) == sorted(own)
    runs = [of[core] for place, core in enumerate(beside) if place == 0 or of[core] != of[beside[place - 1]]]
    assert len(runs) == len(set(runs))
