"""NVIDIA cards seen through the driver's own library, without importing torch (which takes seconds)."""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass

from engines.errors import EngineError

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class CudaCard:
    """One card."""

    index: int
    name: str  # "NVIDIA GeForce RTX 4070"
    capability: str  # "8.9"
    driver: str  # highest CUDA version the driver runs, "12.8"


def cuda_card(device: str = "cuda") -> CudaCard:
    """The card behind "cuda" (the first) or "cuda:1".

    Raises:
        EngineError: no driver, or no such card.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index or "0").isdigit():
        raise EngineError(f"device {device!r} is no NVIDIA card: expected cuda or cuda:N.")
    cards = cuda_cards()
    if int(index or 0) >= len(cards):
        found = ", ".join(f"cuda:{card.index} ({card.name})" for card in cards) or "none"
        raise EngineError(f"device {device!r} is not there: cards found: {found}.")
    return cards[int(index or 0)]


@functools.cache
def cuda_cards() -> tuple[CudaCard, ...]:
    """All cards the driver offers.

    Raises:
        EngineError: no driver.
    """
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError as exc:
        raise EngineError(f"no NVIDIA driver ({_LIBRARY} not found).") from exc
    if status := cuda.cuInit(0):
        raise EngineError(f"the NVIDIA driver does not start (cuInit gives {status}).")
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return tuple(_card(cuda, index, driver) for index in range(count.value))


def _card(cuda: ctypes.CDLL, index: int, driver: str) -> CudaCard:
    handle, name, number = ctypes.c_int(), ctypes.create_string_buffer(128), ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(handle), index)
    cuda.cuDeviceGetName(name, len(name), handle)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, handle)
        capability.append(str(number.value))
    return CudaCard(index, name.value.decode(errors="replace"), ".".join(capability), driver)
