"""Computes on every GPU that it sees, with nothing but the driver, and writes down which these were, and when.

It goes on for as long as there is a file `stay`. The functions are those of the CUDA driver API
(https://docs.nvidia.com/cuda/cuda-driver-api/).
"""

import ctypes
import json
import os
import sys
import time
import uuid
from pathlib import Path

NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
WORDS = 1 << 20

_driver = ctypes.CDLL("libcuda.so.1")


def call(name: str, *arguments: object) -> None:
    if code := getattr(_driver, name)(*arguments):
        sys.exit(f"{name}: CUDA error {code}")


def devices() -> int:
    if _driver.cuInit(0) == NO_DEVICE:
        return 0
    count = ctypes.c_int()
    call("cuDeviceGetCount", ctypes.byref(count))
    return count.value


def compute(ordinal: int) -> str:
    """Fills some memory of a GPU and reads it back; returns the GPU's UUID."""
    device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    call("cuDeviceGet", ctypes.byref(device), ordinal)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(4 * WORDS))
    call("cuMemsetD32_v2", memory, ctypes.c_uint(ordinal + 7), ctypes.c_size_t(WORDS))
    words = (ctypes.c_uint * WORDS)()
    call("cuMemcpyDtoH_v2", words, memory, ctypes.c_size_t(4 * WORDS))
    assert set(words) == {ordinal + 7}
    own = (ctypes.c_ubyte * 16)()
    call("cuDeviceGetUuid_v2", own, device)
    return f"GPU-{uuid.UUID(bytes=bytes(own))}"


began = time.time()
seen = {"pid": os.getpid(), "uuids": [compute(ordinal) for ordinal in range(devices())]}
name = f"seen-{os.environ.get('WANDB_RUN_ID', 'stranger')}.json"


def note() -> None:
    Path(f"{name}.new").write_text(json.dumps({**seen, "span": [began, time.time()]}))
    Path(f"{name}.new").rename(name)


note()
time.sleep(0.5)
while Path("stay").exists():
    time.sleep(0.05)
note()
