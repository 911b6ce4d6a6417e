"""Which GPUs a process may use: by the driver, the environment and --gpu-ids. NVML is a fake one, sysfs a folder."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wandb_submit.devices import Gpu, VisibleGpus, visible_gpus
from wandb_submit.devices.strangers import watch_for
from wandb_submit.devices.variables import CUDA, ROCR
from wandb_submit.errors import RefusedError
from wandb_submit.system.process import wait_until

FAKES = Path(__file__).parents[1] / "fakes"
UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
OTHER = "GPU-8a11f937-d72c-4106-c12f-20bd9faed9f7"
MIG = "MIG-b7c38f3f-0f6e-5a8c-9a53-2f3d1b6a7c90"
MIG_TOO = "MIG-c1111111-0f6e-5a8c-9a53-2f3d1b6a7c91"

Nvml = Callable[..., None]


@pytest.fixture(autouse=True)
def nvml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Nvml]:
    """Says what the fake NVML knows; until then, as on a machine without its driver, nothing."""
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)

    def put(*gpus: dict[str, Any]) -> None:
        (tmp_path / "nvml.json").write_text(json.dumps(gpus))
        monkeypatch.setenv("FAKE_NVML", str(tmp_path / "nvml.json"))

    yield put
    fake = sys.modules.pop("pynvml", None)
    assert fake is None or fake.Library.opened == 0


@pytest.fixture
def kfd(tmp_path: Path) -> Callable[..., Path]:
    """Makes a sysfs with a processor and these GPUs of AMD's; `None` is one that is not for us."""

    def make(*gpus: dict[str, int] | None) -> Path:
        for number, properties in enumerate(({}, *gpus)):
            node = tmp_path / "sys/class/kfd/kfd/topology/nodes" / str(number)
            node.mkdir(parents=True)
            (node / "gpu_id").write_text(f"{number * 1000}\n")
            if properties is not None:
                lines = {"simd_count": 304, "location_id": number << 8, "domain": 0, **properties}
                (node / "properties").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
            (node / "name").write_text("aldebaran\n")
        return tmp_path / "sys"

    return make


def tokens(visible: VisibleGpus) -> list[str]:
    return [gpu.token for gpu in visible.gpus]


def named(value: str) -> list[str]:
    return tokens(visible_gpus({CUDA: value}))


# --- without a driver


def test_indices_are_devices() -> None:
    assert named("0,1,3") == ["0", "1", "3"]


def test_a_uuid_is_a_device_and_keeps_its_name() -> None:
    assert named(f"{UUID},{MIG}") == [UUID, MIG]


@pytest.mark.parametrize("value", ["", " ", "-1", "-1,0"])
def test_none_are_visible_where_none_are_named(value: str) -> None:
    assert named(value) == []


def test_blanks_around_a_name_do_not_belong_to_it() -> None:
    assert named(f" {UUID} , {MIG}") == [UUID, MIG]


@pytest.mark.parametrize("value", [f"{UUID},-1,{MIG}", f"{UUID},,{MIG}"])
def test_what_stands_behind_an_invalid_name_is_invisible(value: str) -> None:
    assert named(value) == [UUID]


def test_no_device_is_listed_twice() -> None:
    assert named(f"{UUID},{UUID}") == [UUID]


def test_the_older_name_of_an_instance_tells_its_gpu() -> None:
    (instance,) = visible_gpus({CUDA: f"MIG-{UUID}/1/0"}).gpus
    assert (instance.token, instance.parent, instance.is_instance) == (f"MIG-{UUID}/1/0", UUID, True)
    (instance,) = visible_gpus({CUDA: MIG}).gpus
    assert (instance.parent, instance.is_instance) == (None, True)


def test_a_machine_without_gpus_has_none(tmp_path: Path) -> None:
    assert visible_gpus({}, sys=tmp_path) == VisibleGpus(gpus=(), variable=CUDA)


def test_the_environment_of_this_process_counts_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUDA, UUID)
    assert tokens(visible_gpus()) == [UUID]


def test_a_device_is_locked_by_its_uuid_however_it_is_named() -> None:
    assert Gpu(token="0", uuid=UUID).lock_name == Gpu(token=UUID, uuid=UUID).lock_name
    assert Gpu(token="0").lock_name != Gpu(token="1").lock_name


def test_a_job_without_gpus_has_none(nvml: Nvml) -> None:
    nvml({"uuid": UUID}, {"uuid": OTHER})
    job = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n"}
    assert tokens(visible_gpus(job)) == []
    assert tokens(visible_gpus({**job, "SLURM_JOB_GPUS": "1"})) == ["1"]


# --- NVIDIA


def test_the_driver_tells_of_gpus_and_what_is_near_them(nvml: Nvml, tmp_path: Path) -> None:
    nvml({"uuid": UUID, "name": "NVIDIA H100", "pci": "00000000:3B:00.0"}, {"uuid": OTHER, "lost": True})
    device = tmp_path / "sys/bus/pci/devices/0000:3b:00.0"
    device.mkdir(parents=True)
    (device / "local_cpulist").write_text("0-2,8\n")
    visible = visible_gpus({}, sys=tmp_path / "sys")
    gpu = Gpu(token="0", uuid=UUID, model="NVIDIA H100", names=("0",), cores=(0, 1, 2, 8))
    assert visible == VisibleGpus(gpus=(gpu,), variable=CUDA)


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("1,0", ["1", "0"]),
        (OTHER, [OTHER]),
        ("GPU-8a", ["GPU-8a"]),
        ("0,7,1", ["0"]),
        (f"0,{UUID}", ["0"]),
        ("", []),
    ],
)
def test_the_variable_limits_what_the_driver_knows(value: str, seen: list[str], nvml: Nvml) -> None:
    nvml({"uuid": UUID}, {"uuid": OTHER})
    assert named(value) == seen


def test_an_index_and_a_uuid_have_one_lock(nvml: Nvml) -> None:
    nvml({"uuid": UUID}, {"uuid": OTHER})
    names = [visible_gpus({CUDA: value}).gpus[0].lock_name for value in ("1", OTHER, "GPU-8a")]
    assert len(set(names)) == 1


def instances(*, older: bool = False) -> list[dict[str, Any]]:
    """The instances of the GPU `UUID`, with a gap; as drivers before 470 named them, if they are to be older."""
    own = [MIG, MIG_TOO] if not older else [f"MIG-{UUID}/1/0", f"MIG-{UUID}/2/0"]
    return [{"uuid": own[0], "gi": 1, "ci": 0, "compute": []}, None, {"uuid": own[1], "gi": 2, "ci": 0, "compute": []}]


def test_a_gpu_in_mig_mode_is_its_instances(nvml: Nvml) -> None:
    nvml({"uuid": UUID, "mig": instances()}, {"uuid": OTHER, "mig": None})
    visible = visible_gpus({})
    assert tokens(visible) == [MIG, MIG_TOO, "1"]
    assert [gpu.parent for gpu in visible.gpus] == [UUID, UUID, None]
    assert [gpu.is_instance for gpu in visible.gpus] == [True, True, False]


def test_a_gpu_in_mig_mode_without_instances_is_nothing(nvml: Nvml) -> None:
    nvml({"uuid": UUID, "mig": []}, {"uuid": OTHER})
    assert tokens(visible_gpus({})) == ["1"]


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("value", ["0", UUID, "GPU-89"])
def test_the_name_of_a_gpu_in_mig_mode_means_all_its_instances(value: str, older: bool, nvml: Nvml) -> None:
    nvml({"uuid": UUID, "mig": instances(older=older)}, {"uuid": OTHER})
    assert named(value) == [instance["uuid"] for instance in instances(older=older) if instance]


def test_an_instance_is_one_device_under_both_its_names(nvml: Nvml) -> None:
    nvml({"uuid": UUID, "mig": instances()})
    newer, older = (visible_gpus({CUDA: value}).gpus for value in (MIG, f"MIG-{UUID}/1/0"))
    assert (newer[0].token, older[0].token) == (MIG, f"MIG-{UUID}/1/0")
    assert newer[0].lock_name == older[0].lock_name
    assert newer[0].parent_lock_name == older[0].parent_lock_name == Gpu(token="0", uuid=UUID).lock_name


# --- AMD


def test_amds_gpus_are_the_drivers_nodes_without_processors(kfd: Callable[..., Path], tmp_path: Path) -> None:
    sys = kfd({"unique_id": 0x1234}, {"unique_id": 0})
    near = sys / "bus/pci/devices/0000:01:00.0"
    near.mkdir(parents=True)
    (near / "local_cpulist").write_text("4-7\n")
    (near / "product_name").write_text("AMD Instinct MI210\n")
    first = Gpu(token="0", uuid="GPU-0000000000001234", model="AMD Instinct MI210", names=("0",), cores=(4, 5, 6, 7))
    second = Gpu(token="1", model="aldebaran", names=("1",))
    assert visible_gpus({}, sys=sys) == VisibleGpus(gpus=(first, second), variable=ROCR)


def test_a_gpu_that_is_not_for_us_has_no_number(kfd: Callable[..., Path]) -> None:
    visible = visible_gpus({}, sys=kfd(None, {"unique_id": 7}))
    assert [(gpu.token, gpu.uuid) for gpu in visible.gpus] == [("0", "GPU-0000000000000007")]


def test_parts_of_a_gpu_that_share_a_number_are_known_by_their_places(kfd: Callable[..., Path]) -> None:
    visible = visible_gpus({}, sys=kfd({"unique_id": 7}, {"unique_id": 7}))
    assert [gpu.lock_name for gpu in visible.gpus] == ["gpu-0", "gpu-1"]


@pytest.mark.parametrize(
    ("environ", "seen"),
    [
        ({"ROCR_VISIBLE_DEVICES": "2,0"}, ["2", "0"]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-000000000000000b"}, ["GPU-000000000000000b"]),
        ({"ROCR_VISIBLE_DEVICES": ""}, []),
        ({"ROCR_VISIBLE_DEVICES": "1,9"}, ["1"]),
        ({"HIP_VISIBLE_DEVICES": "1"}, ["1"]),
        ({"HIP_VISIBLE_DEVICES": "1,7,0"}, ["1"]),
        ({"CUDA_VISIBLE_DEVICES": "2"}, ["2"]),
        ({"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "2"}, ["1"]),
        ({"HIP_VISIBLE_DEVICES": ""}, []),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, ["2"]),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "2"}, []),
        ({"ROCR_VISIBLE_DEVICES": "2", "CUDA_VISIBLE_DEVICES": "2"}, ["2"]),  # Slurm sets all vendors' variables
    ],
)
def test_amds_variables_stack_up(environ: dict[str, str], seen: list[str], kfd: Callable[..., Path]) -> None:
    visible = visible_gpus(environ, sys=kfd({"unique_id": 10}, {"unique_id": 11}, {"unique_id": 12}))
    assert (tokens(visible), visible.variable) == (seen, ROCR)


@pytest.mark.parametrize(
    ("environ", "seen"),
    [
        ({"ROCR_VISIBLE_DEVICES": "2,0"}, ["2", "0"]),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, ["2", "0"]),
        ({"HIP_VISIBLE_DEVICES": ""}, []),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, ["2"]),
    ],
)
def test_amds_variables_are_enough(environ: dict[str, str], seen: list[str], tmp_path: Path) -> None:
    visible = visible_gpus(environ, sys=tmp_path)
    assert (tokens(visible), visible.variable) == (seen, ROCR)


def test_a_machine_with_both_uses_nvidias(nvml: Nvml, kfd: Callable[..., Path]) -> None:
    nvml({"uuid": UUID})
    visible = visible_gpus({"ROCR_VISIBLE_DEVICES": "0"}, sys=kfd({"unique_id": 10}))
    assert (tokens(visible), visible.variable) == (["0"], CUDA)


# --- --gpu-ids


@pytest.mark.parametrize(
    ("only", "seen"),
    [
        (("2", "0"), ["2", "0"]),
        (("GPU-8a",), ["1"]),
        ((OTHER, "1"), ["1"]),
        (("MIG-b7",), [MIG]),
        (("3",), [MIG, MIG_TOO]),
        ((f"MIG-{UUID}/2/0",), [MIG_TOO]),
    ],
)
def test_the_pool_is_limited_to_what_is_named(only: tuple[str, ...], seen: list[str], nvml: Nvml) -> None:
    plain = [{"uuid": "GPU-0"}, {"uuid": OTHER}, {"uuid": "GPU-2"}]
    nvml(*plain, {"uuid": UUID, "mig": instances()})
    assert tokens(visible_gpus({}, only=only)) == seen


@pytest.mark.parametrize("only", ["4", "0", "GPU-8", "GPU-x", "MIG-"])
def test_what_is_not_there_or_not_visible_is_refused_with_what_is(only: str, nvml: Nvml) -> None:
    nvml({"uuid": "GPU-0"}, {"uuid": UUID, "name": "NVIDIA H100"}, {"uuid": OTHER})
    with pytest.raises(RefusedError) as caught:
        visible_gpus({CUDA: "1,2"}, only=[only])
    assert str(caught.value) == (
        f"--gpu-ids {only}: there is no GPU of this name, or several: the GPUs here are 1 (NVIDIA H100), "
        "2 (NVIDIA A100) "
        "(within CUDA_VISIBLE_DEVICES='1,2')"
    )


def test_a_gpu_is_named_by_its_own_number_whatever_the_variable_calls_it(nvml: Nvml) -> None:
    nvml({"uuid": UUID}, {"uuid": OTHER})
    assert tokens(visible_gpus({CUDA: f"{OTHER},{UUID}"}, only=["1"])) == [OTHER]


# --- strangers


def look(variable: str = CUDA) -> list[str | None]:
    visible = visible_gpus({})
    with watch_for(visible.gpus, variable)() as who:
        return [who(gpu) for gpu in visible.gpus]


def test_who_computes_on_a_gpu_is_told(nvml: Nvml) -> None:
    me = f"(process {os.getpid()} of {pwd.getpwuid(os.getuid()).pw_name})"
    nvml({"uuid": UUID, "compute": []}, {"uuid": OTHER, "compute": [os.getpid()], "mps": [2**22 + 1]})
    nobody, told = look()
    assert nobody is None
    assert told is not None
    assert me in told
    assert f"process {2**22 + 1}" in told
    assert look(ROCR) == [None, None]


def test_an_instance_is_looked_at_by_itself(nvml: Nvml) -> None:
    busy = [instances()[0], {**instances()[2], "compute": [2**22 + 1]}]
    nvml({"uuid": UUID, "mig": busy})
    assert look() == [None, f"process {2**22 + 1}"]


def test_the_server_of_mps_computes_nothing_itself(nvml: Nvml, tmp_path: Path) -> None:
    (tmp_path / "nvidia-cuda-mps-server").symlink_to("/bin/sleep")
    with subprocess.Popen([tmp_path / "nvidia-cuda-mps-server", "600"]) as server:
        comm = Path(f"/proc/{server.pid}/comm")
        assert wait_until(lambda: comm.read_text().startswith("nvidia-cuda-mps"), timeout_s=60)
        nvml({"uuid": UUID, "compute": [server.pid]})
        assert look() == [None]
        nvml({"uuid": UUID, "compute": [server.pid], "mps": [2**22 + 1]})
        assert look() == [f"process {2**22 + 1}"]
        server.kill()


def test_a_driver_that_does_not_tell_is_no_reason_to_pass_a_gpu_over(nvml: Nvml) -> None:
    nvml({"uuid": UUID})
    assert look() == [None]
