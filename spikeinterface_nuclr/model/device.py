"""Choice of the device, the precision and the number of threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import DeviceError, InputError, reason_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}

_process = os.getpid()  # the process with torch's threads


def choose_device(name: str = "auto") -> torch.device:
    """The device with this name; "auto" is the first GPU if there is one, else the CPU.

    Raises
    ------
    DeviceError
        The device is unknown or not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise DeviceError(f"device {name!r} is unknown: use auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} is absent ({torch.cuda.device_count()} GPUs found): use auto or cpu")
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device {name!r} does not work here ({reason_of(error)}): use auto or cpu") from None
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """The precision with this name; "auto" is bfloat16 on devices with native support for it, else float32.

    Raises
    ------
    InputError
        The precision is unknown.
    """
    if name == "auto":
        return "bfloat16" if _fast_bfloat16(device) else "float32"
    if name not in DTYPES:
        raise InputError(f"precision {name!r} is unknown: use auto, {', '.join(DTYPES)}")
    return name


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # torch has these checks only under private names; float32 is a safe choice if they are missing.
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Set the number of CPU threads of torch inside the block; None leaves it unchanged.

    In a forked process it stays at one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if _forked() else count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _forked() -> bool:
    return _process != os.getpid()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    # A fork does not copy torch's threads, so the first parallel loop of the child process would deadlock.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
