"""Chooses the device and precisions for this machine.

Imports torch only if there is a GPU driver: a worker on a CPU does without.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Precision = Literal["fp32", "bf16", "fp16"]
ERROR_COMMITMENT_LIMIT = 1455
"""The Windows error for memory that ran out."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device by torch's name ("cpu", "cuda", "mps"), and the precisions to use on it."""

    name: str
    serving_precision: Precision | Literal["int8"]
    training_precision: Precision


def best_device(serving: Literal["int8", "fp32"] = "int8") -> Device:
    """The first NVIDIA GPU if there is one, else the CPU, which serves in the precision given.

    A CPU trains in bf16 where it has matrix units for that (AMX). With AVX-512's own bf16
    instructions alone, torch multiplies the matrices of a small model more slowly than in fp32.
    """
    if _has_nvidia_driver():
        import torch

        if torch.cuda.is_available():
            in_hardware = torch.cuda.is_bf16_supported(including_emulation=False)
            half: Precision = "bf16" if in_hardware else "fp16"
            return Device("cuda", half, half)
    return Device("cpu", serving, "bf16" if "amx_bf16" in cpu_flags() else "fp32")


def training_device() -> Device:
    """The device of a training run; unlike serving, it may be the GPU of a Mac (MPS)."""
    import torch

    return Device("mps", "fp32", "fp32") if torch.backends.mps.is_available() else best_device()


def disable_cudnn_attention() -> None:
    """Disable torch's cuDNN attention: it builds a plan for each new length of a prompt or batch,
    which was slow in bf16 and fp16 on an H200."""
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch or Python means that memory ran out."""
    if isinstance(error, RuntimeError):  # torch's own class; the CPU and safetensors have none
        words = str(error)
        return (
            type(error).__name__ == "OutOfMemoryError"
            or "out of memory" in words  # the driver, and a Mac's GPU
            or "STATUS_ALLOC_FAILED" in words  # NVIDIA's libraries
            or "can't allocate memory" in words
            or os.strerror(errno.ENOMEM) in words
        )
    if isinstance(error, OSError):  # of mmap
        return (
            error.errno == errno.ENOMEM or getattr(error, "winerror", 0) == ERROR_COMMITMENT_LIMIT
        )
    return isinstance(error, MemoryError)


def _has_nvidia_driver() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # no GPU is meant to be used
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def cpu_flags() -> set[str]:
    """The CPU features that Linux reports; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return set(lines[0].partition(":")[2].split()) if lines else set()


def cpu_kind() -> str:
    """The kind of CPU, as far as the artifacts built for it depend on that."""
    vnni = "vnni" if cpu_flags() & {"avx512_vnni", "avx_vnni"} else ""
    return (
        f"{platform.machine()} {vnni}" if vnni else f"{platform.machine()} {platform.processor()}"
    )


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
