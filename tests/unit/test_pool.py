from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wandb_submit.devices import Gpu
from wandb_submit.devices.strangers import Watch
from wandb_submit.errors import RefusedError
from wandb_submit.executors.local.closings import Closings
from wandb_submit.executors.local.line import Place
from wandb_submit.executors.local.locks import DeviceLocks, gpu_locks, is_held, lock_folder
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
    assert not is_held(Gpu(token="0"))


def test_devices_that_are_given_back_are_taken_again() -> None:
    own = pool(gpu_count=1)
    first = own.take(0, Demand(gpus=1))
    assert first is not None
    copies = [os.dup(descriptor) for descriptor in first.descriptors]  # the task's
    for copy in copies:
        os.close(copy)
    assert is_held(Gpu(token="0"))  # what the task has left behind may run on
    own.give_back(0)
    again = own.take(1, Demand(gpus=1))
    assert tokens(again) == ["0"]
    close(again)


def test_a_task_that_cannot_get_all_its_locks_gives_back_those_that_it_got() -> None:
    (lock_folder() / "gpu-1.lock").symlink_to("gpu-1.lock")  # cannot be opened
    own = pool(gpu_count=2)
    with pytest.raises(RefusedError):
        own.take(0, Demand(gpus=2))
    own.give_back(0)
    assert not is_held(Gpu(token="0"))


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


UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
WHOLE = Gpu(token="0", uuid=UUID)
INSTANCES = tuple(Gpu(token=f"MIG-{number}", uuid=f"MIG-{number}", parent=UUID) for number in (1, 2))


def test_a_gpu_and_its_instances_are_never_held_by_different_tasks() -> None:
    whole, parts = Pool(gpus=[WHOLE], cores=(), places=1), Pool(gpus=INSTANCES, cores=(), places=2)
    first, second = parts.take(0, Demand(gpus=1)), parts.take(1, Demand(gpus=1))
    assert (tokens(first), tokens(second)) == (["MIG-1"], ["MIG-2"])
    assert whole.take(0, Demand(gpus=1)) is None
    parts.give_back(0)
    assert whole.take(0, Demand(gpus=1)) is None
    close(second)
    held = whole.take(0, Demand(gpus=1))
    assert tokens(held) == ["0"]
    assert parts.take(0, Demand(gpus=1)) is None
    assert is_held(INSTANCES[0])
    close(held)
    assert not is_held(INSTANCES[0])
    close(parts.take(0, Demand(gpus=1)))


def strangers_on(who: dict[str, str]) -> Watch:
    """Finds processes on GPUs, by their tokens."""
    return lambda: contextlib.nullcontext(lambda gpu: who.get(gpu.token))


def test_a_gpu_that_a_stranger_computes_on_is_passed_over_until_he_has_ended() -> None:
    who = {"0": "python (process 7 of anna)"}
    own = Pool(gpus=gpus(2), cores=(), places=2, watch=strangers_on(who))
    first = own.take(0, Demand(gpus=1))
    assert tokens(first) == ["1"]
    assert own.take(1, Demand(gpus=1)) is None
    words = "waits for 1 GPU (0 of 2 free); GPU 0 is busy with python (process 7 of anna)"
    assert own.shortage == Shortage(reason=words, strangers=True)
    assert own.patience_s() == 5
    assert not is_held(Gpu(token="0"))  # others may look at it meanwhile
    who.clear()
    second = own.take(1, Demand(gpus=1))
    assert tokens(second) == ["0"]
    close(first, second)


def test_a_stranger_is_looked_for_although_another_submissions_device_is_waited_for() -> None:
    own = Pool(gpus=gpus(2), cores=(), places=2, watch=strangers_on({"0": "python"}))
    other = DeviceLocks()
    assert other.add(gpu_locks(Gpu(token="1")))
    assert own.take(0, Demand(gpus=1)) is None
    assert own.shortage is not None
    assert (own.shortage.awaits, own.patience_s()) == ({"gpu-1.lock"}, 5)
    own.leave_line()
    other.free()


def test_what_is_freed_just_before_it_is_watched_for_is_seen() -> None:
    other = DeviceLocks()
    assert other.add(gpu_locks(Gpu(token="0")))

    class Late(Closings):
        def begin(self, folder: Path) -> bool:
            other.free()
            return super().begin(folder)

    own = Pool(gpus=gpus(1), cores=(), places=1, place=Place(), closings=Late())
    slot = own.take(0, Demand(gpus=1))
    assert tokens(slot) == ["0"]
    own.leave_line()
    close(slot)


def test_nobody_is_looked_for_where_no_gpu_is_asked_for() -> None:
    def fail() -> NoReturn:
        raise AssertionError("looked")

    own = Pool(gpus=gpus(1), cores=(), places=1, watch=fail)
    assert own.take(0, Demand(gpus=0)) is not None


def near(first: range, second: range) -> list[Gpu]:
    return [Gpu(token="0", cores=tuple(first)), Gpu(token="1", cores=tuple(second))]


def test_cores_that_a_task_owns_are_near_its_gpu_as_long_as_there_are_some() -> None:
    own = Pool(gpus=near(range(4, 8), range(4)), cores=range(8), places=2)
    first, second = own.take(0, Demand(gpus=1, cores=3)), own.take(1, Demand(gpus=1, cores=5))
    assert first is not None
    assert second is not None
    assert (first.cores, second.cores) == ((4, 5, 6), (0, 1, 2, 3, 7))
    close(first, second)


def test_a_share_of_the_cores_is_one_near_the_tasks_gpu() -> None:
    own = Pool(gpus=near(range(4, 8), range(4)), cores=range(8), places=2)
    slots = [own.take(task, Demand(gpus=1)) for task in range(2)]
    assert [slot.cores for slot in slots if slot is not None] == [(4, 5, 6, 7), (0, 1, 2, 3)]
    close(*slots)


def test_shares_are_of_neighbouring_cores() -> None:
    own = Pool(gpus=(), cores=range(8), places=2, neighbours=(0, 4, 1, 5, 2, 6, 3, 7))
    slots = [own.take(task, Demand()) for task in range(2)]
    assert [slot.cores for slot in slots if slot is not None] == [(0, 4, 1, 5), (2, 6, 3, 7)]


@settings(max_examples=30)
@given(
    steps=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.sampled_from([0, 1])), max_size=15),
    strangers=st.sets(st.sampled_from(["0", "1", "MIG-1", "MIG-2"])),
)
def test_whatever_tasks_come_and_go_nobody_shares_a_gpu_in_part_or_whole(
    steps: list[tuple[int, int, int]], strangers: set[str]
) -> None:
    devices = ([*gpus(2)[1:], WHOLE], [*INSTANCES, *gpus(2)[1:]])
    who = dict.fromkeys(strangers, "python")
    pools = [Pool(gpus=own, cores=(), places=3, watch=strangers_on(who)) for own in devices]
    held: dict[tuple[int, int], Slot] = {}
    for which, task, count in steps:
        if held.pop((which, task), None):
            pools[which].give_back(task)
        elif (slot := pools[which].take(task, Demand(gpus=count))) is not None:
            held[which, task] = slot
        taken = [gpu for slot in held.values() for gpu in slot.gpus or ()]
        assert len({gpu.lock_name for gpu in taken}) == len(taken)
        assert WHOLE not in taken or not set(INSTANCES) & set(taken)
        assert not strangers & {gpu.token for gpu in taken}
    close(*held.values())


@settings(max_examples=30)
@given(
    steps=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 2), st.integers(1, 2)), max_size=15)
)
def test_whatever_tasks_come_and_go_no_device_is_held_twice(steps: list[tuple[int, int, int, int]]) -> None:
    pools = [pool(gpu_count=4, cores=4, places=2), pool(gpu_count=4, cores=4, places=2)]
    held: dict[tuple[int, int], Slot] = {}
    for which, task, gpu_count, cores in steps:
        if held.pop((which, task), None):
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
    base = {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "CUDA_DEVICE_ORDER": "FASTEST_FIRST", "HOME": "/h"}
    environment = slot.environment(base)
    seen = {"CUDA_VISIBLE_DEVICES": "2,3", "WANDB_SUBMIT_GPUS": "2,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert environment == {**seen, "HOME": "/h"}


def test_amds_gpus_are_told_by_one_variable_and_no_other_is_left() -> None:
    slot = Slot(gpus=(Gpu(token="2"), Gpu(token="3")), cores=(), variable="ROCR_VISIBLE_DEVICES")
    before = {"CUDA_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "1", "GPU_DEVICE_ORDINAL": "1", "HOME": "/h"}
    seen = {"ROCR_VISIBLE_DEVICES": "2,3", "WANDB_SUBMIT_GPUS": "2,3"}
    assert slot.environment(before) == {**seen, "HOME": "/h"}
    hidden = Slot(gpus=(), cores=(), variable="ROCR_VISIBLE_DEVICES")
    assert hidden.environment(before) == {"ROCR_VISIBLE_DEVICES": "", "WANDB_SUBMIT_GPUS": "", "HOME": "/h"}


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
    assert mine.shortage == Shortage(reason="waits for 2 GPUs (1 of 2 free)")
    assert mine.patience_s() == math.inf
    assert theirs.take(0, Demand(gpus=2)) is None
    assert theirs.shortage == Shortage(reason="waits for 2 GPUs (1 of 2 free)", awaits=frozenset({"gpu-0.lock"}))
    second = theirs.take(1, Demand(gpus=1))
    assert theirs.shortage is None
    assert mine.take(1, Demand(gpus=1)) is None
    assert mine.shortage == Shortage(reason="waits for 1 GPU (0 of 2 free)", awaits=frozenset({"gpu-1.lock"}))
    close(first, second)
