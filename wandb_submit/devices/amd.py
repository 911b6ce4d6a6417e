"""AMD's GPUs, as the kernel tells them; no program of ROCm is needed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from wandb_submit.devices.cores import cores_near
from wandb_submit.devices.gpu import Gpu


def gpus(sys: Path) -> list[Gpu]:
    """The GPUs that ROCm would find, in its order; none where there is no driver.

    The driver's nodes are the machine's processors and GPUs. ROCm numbers the GPUs among those whose properties this
    process may read, which inside a container or a job are its own (`topology.c` of
    https://github.com/ROCm/ROCR-Runtime).

    Args:
        sys: where sysfs is.
    """
    nodes = sorted((sys / "class/kfd/kfd/topology/nodes").glob("[0-9]*"), key=lambda node: int(node.name))
    found = [(node, properties) for node in nodes if (properties := _gpu_properties(node))]
    ids = Counter(properties.get("unique_id", 0) for _, properties in found)
    return [
        Gpu(
            token=str(index),
            # Old GPUs have none, and the parts of a GPU that is partitioned may share one.
            uuid=f"GPU-{own:016x}" if (own := properties.get("unique_id", 0)) and ids[own] == 1 else None,
            model=_model(node, properties, sys),
            names=(str(index),),
            cores=cores_near(_pci_address(properties), sys),
        )
        for index, (node, properties) in enumerate(found)
    ]


def _gpu_properties(node: Path) -> dict[str, int]:
    """A node's properties; none of a processor, or of a GPU that is not for us."""
    try:
        words = (node / "properties").read_text().split()
        if int((node / "gpu_id").read_text()) == 0:
            return {}
    except (OSError, ValueError):
        return {}
    return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=False) if value.isdecimal()}


def _pci_address(properties: dict[str, int]) -> str:
    place = properties.get("location_id", 0)
    return f"{properties.get('domain', 0):04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 0x7:x}"


def _model(node: Path, properties: dict[str, int], sys: Path) -> str | None:
    """Its product name, which not every GPU has, or else its chip's."""
    product = sys / "bus/pci/devices" / _pci_address(properties) / "product_name"
    for path in (product, node / "name"):
        try:
            if name := path.read_text().strip():
                return name
        except OSError:
            continue
    return None
