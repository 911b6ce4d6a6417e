from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wandb_submit.devices import Gpu
from wandb_submit.executors.local.locks import try_lock
from wandb_submit.executors.local.pool import Demand, Pool, Shortage, Slot


def gpus(count: int) -> list[Gpu]:
    return [Gpu(token=str(index)) for index in range(count)]


def pool(*, gpu_count: int = 0, cores: int = 0, places: int = 1) -> Pool:
    return Pool(gpus=gpus(gpu_count), cores=range(cores), places=places)


def tokens(slot: Slot | None) -> list[str]:
    assert slot is not None
    return [gpu.token for gpu in slot.gpus or ()]


def close(*slots: Slot | None) -> None:
    for slot in slots:
        if slot is not None:
            slot.close()


def taken_twice(slots: Sequence[Slot]) -> set[object]:
    devices = [device for slot in slots for device in (*(gpu.token for gpu in slot.gpus or ()), *slot.cores)]
    return {device for device in devices if devices.count(device) > 1}


def test_tasks_get_devices_in_order_and_none_twice() -> None:
    own = pool(gpu_count=4, cores=4, places=2)
    first, second = own.take(0, Demand(gpus=2, cores=2)), own.take(1, Demand(gpus=2, cores=2))
    assert (tokens(first), tokens(second)) == (["0", "1"], ["2", "3"])
    assert first is not None
    assert second is not None
    assert (first.cores, second.cores) == ((0, 1), (2, 3))
    close(first, second)


def test_a_task_waits_where_too_few_are_free_and_then_holds_nothing() -> None:
    own = pool(gpu_count=3)
    first = own.take(0, Demand(gpus=2))
    assert own.take(1, Demand(gpus=2)) is None
    last = own.take(2, Demand(gpus=1))
    assert tokens(last) == ["2"]
    close(first, last)


def test_a_task_that_lacks_cores_leaves_the_gpus_to_others() -> None:
    own = pool(gpu_count=1, cores=1)
    assert own.take(0, Demand(gpus=1, cores=2)) is None
    free = try_lock("gpu-0")
    assert free is not None
    os.close(free)


def test_devices_that_are_given_back_are_taken_again() -> None:
    own = pool(gpu_count=1)
    first = own.take(0, Demand(gpus=1))
    close(first)
    own.give_back(0)
    again = own.take(1, Demand(gpus=1))
    assert tokens(again) == ["0"]
    close(again)


def test_a_device_stays_its_tasks_although_our_copy_of_its_lock_is_closed() -> None:
    own = pool(gpu_count=2)
    close(own.take(0, Demand(gpus=1)))
    second = own.take(1, Demand(gpus=1))
    assert tokens(second) == ["1"]
    close(second)


def test_two_submissions_never_hold_one_device() -> None:
    mine, theirs = pool(gpu_count=3), pool(gpu_count=3)
    first, second = mine.take(0, Demand(gpus=2)), theirs.take(0, Demand(gpus=1))
    assert (tokens(first), tokens(second)) == (["0", "1"], ["2"])
    assert theirs.take(1, Demand(gpus=1)) is None
    close(first)
    third = theirs.take(1, Demand(gpus=1))
    assert tokens(third) == ["0"]
    close(second, third)


def test_a_device_that_is_named_differently_is_the_same_device() -> None:
    by_index = Pool(gpus=[Gpu(token="0", uuid="GPU-1")], cores=(), places=1)
    by_uuid = Pool(gpus=[Gpu(token="GPU-1", uuid="GPU-1")], cores=(), places=1)
    held = by_index.take(0, Demand(gpus=1))
    assert by_uuid.take(0, Demand(gpus=1)) is None
    close(held)


@settings(max_examples=30)
@given(
    steps=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 2), st.integers(1, 2)), max_size=15)
)
def test_whatever_tasks_come_and_go_no_device_is_held_twice(steps: list[tuple[int, int, int, int]]) -> None:
    pools = [pool(gpu_count=4, cores=4, places=2), pool(gpu_count=4, cores=4, places=2)]
    held: dict[tuple[int, int], Slot] = {}
    for which, task, gpu_count, cores in steps:
        if (which, task) in held:
            close(held.pop((which, task)))
            pools[which].give_back(task)
        elif (slot := pools[which].take(task, Demand(gpus=gpu_count, cores=cores))) is not None:
            assert (len(slot.gpus or ()), len(slot.cores)) == (gpu_count, cores)
            held[which, task] = slot
        assert taken_twice(list(held.values())) == set()
    close(*held.values())


@pytest.mark.parametrize(
    ("cores", "places", "shares"),
    [
        (4, 2, [(0, 1), (2, 3)]),
        (5, 2, [(0, 1), (2, 3)]),
        (3, 3, [(0,), (1,), (2,)]),
        (2, 3, [(0, 1), (0, 1), (0, 1)]),
        (4, 1, [(0, 1, 2, 3)]),
    ],
)
def test_cores_that_nobody_asked_for_are_shared_evenly(cores: int, places: int, shares: list[tuple[int, ...]]) -> None:
    own = pool(cores=cores, places=places)
    slots = [own.take(task, Demand()) for task in range(places)]
    assert [slot.cores for slot in slots if slot is not None] == shares


def test_a_share_that_is_given_back_goes_to_the_next_task() -> None:
    own = pool(cores=4, places=2)
    own.take(0, Demand())
    own.take(1, Demand())
    own.give_back(0)
    again = own.take(2, Demand())
    assert again is not None
    assert again.cores == (0, 1)


def test_a_task_sees_its_gpus_alone() -> None:
    slot = Slot(gpus=(Gpu(token="2"), Gpu(token="3")), cores=())
    environment = slot.environment({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "HOME": "/h"})
    seen = {"CUDA_VISIBLE_DEVICES": "2,3", "WANDB_SUBMIT_GPUS": "2,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert environment == {**seen, "HOME": "/h"}


def test_zero_gpus_hide_all_of_them() -> None:
    own = pool(gpu_count=2)
    slot = own.take(0, Demand(gpus=0))
    assert slot is not None
    assert slot.environment({"CUDA_VISIBLE_DEVICES": "0,1"})["CUDA_VISIBLE_DEVICES"] == ""


def test_no_word_about_gpus_leaves_the_environment_as_it_is() -> None:
    slot = pool(gpu_count=2).take(0, Demand())
    assert slot is not None
    assert slot.environment({"HOME": "/h"}) == {"HOME": "/h"}


def test_a_shortage_is_told_with_numbers_and_whether_others_cause_it() -> None:
    mine, theirs = pool(gpu_count=2), pool(gpu_count=2)
    first = mine.take(0, Demand(gpus=1))
    assert mine.shortage is None
    assert mine.take(1, Demand(gpus=2)) is None
    assert mine.shortage == Shortage(reason="waits for 2 GPUs (1 of 2 free)", others=False)
    assert theirs.take(0, Demand(gpus=2)) is None
    assert theirs.shortage == Shortage(reason="waits for 2 GPUs (1 of 2 free)", others=True)
    second = theirs.take(1, Demand(gpus=1))
    assert theirs.shortage is None
    assert mine.take(1, Demand(gpus=1)) is None
    assert mine.shortage == Shortage(reason="waits for 1 GPU (0 of 2 free)", others=True)
    close(first, second)
