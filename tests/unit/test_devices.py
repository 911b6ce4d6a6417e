from __future__ import annotations

import os

import pytest

from wandb_submit.devices import Gpu, usable_cores, visible_gpus

UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
MIG = "MIG-b7c38f3f-0f6e-5a8c-9a53-2f3d1b6a7c90"
HAS_DRIVER = bool(visible_gpus({}))
without_driver = pytest.mark.skipif(HAS_DRIVER, reason="a driver knows its own devices")


def tokens(named: str) -> list[str]:
    return [gpu.token for gpu in visible_gpus({"CUDA_VISIBLE_DEVICES": named})]


@without_driver
def test_indices_are_devices() -> None:
    assert tokens("0,1,3") == ["0", "1", "3"]


def test_a_uuid_is_a_device_and_keeps_its_name() -> None:
    assert tokens(f"{UUID},{MIG}") == [UUID, MIG]


@pytest.mark.parametrize("named", ["", " ", "-1", "-1,0"])
def test_none_are_visible_where_none_are_named(named: str) -> None:
    assert tokens(named) == []


def test_blanks_around_a_name_do_not_belong_to_it() -> None:
    assert tokens(f" {UUID} , {MIG}") == [UUID, MIG]


@pytest.mark.parametrize("named", [f"{UUID},-1,{MIG}", f"{UUID},,{MIG}"])
def test_what_stands_behind_an_invalid_name_is_invisible(named: str) -> None:
    assert tokens(named) == [UUID]


def test_no_device_is_listed_twice() -> None:
    assert tokens(f"{UUID},{UUID}") in ([UUID], [])


@without_driver
def test_a_machine_without_gpus_has_none() -> None:
    assert visible_gpus({}) == []


def test_the_environment_of_this_process_counts_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUID)
    assert [gpu.token for gpu in visible_gpus()] == [UUID]


def test_a_device_is_locked_by_its_uuid_however_it_is_named() -> None:
    assert Gpu(token="0", uuid=UUID).lock_name == Gpu(token=UUID, uuid=UUID).lock_name
    assert Gpu(token="0").lock_name != Gpu(token="1").lock_name


def test_usable_cores_are_those_of_the_affinity() -> None:
    before = os.sched_getaffinity(0)
    only = max(before)
    os.sched_setaffinity(0, {only})
    try:
        assert usable_cores() == [only]
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores() == sorted(before)
