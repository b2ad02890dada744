"""Which device and number format this machine is best used with. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class Device:
    """`name` is torch's ("cpu", "cuda", "mps"); precisions are those chosen for it."""

    name: str
    serving: Precision
    training: Precision

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that weights are served in."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.serving]


def best_device() -> Device:
    """The first GPU if there is one, else the CPU.

    A CPU serves in fp32 (the reference) and trains in bf16 where it multiplies bf16 natively.
    """
    if torch.cuda.is_available():
        half: Precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        return Device("cuda", half, half)
    if torch.backends.mps.is_available():
        return Device("mps", "fp32", "fp32")
    return Device("cpu", "fp32", "bf16" if _cpu_has_bf16() else "fp32")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch, or of Python, says that memory ran out."""
    if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one; the CPU has no class
        return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError)


def _cpu_has_bf16() -> bool:
    capability = torch.cpu.get_capabilities()
    return bool(capability.get("avx512_bf16") or capability.get("amx_bf16"))
