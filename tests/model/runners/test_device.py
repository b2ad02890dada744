"""Which device is chosen, and which errors say that its memory ran out."""

from __future__ import annotations

import ctypes

import pytest
import torch

from model.runners import device
from model.runners.device import Device, best_device, is_out_of_memory


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_that_only_emulates_bf16_uses_fp16(
    monkeypatch: pytest.MonkeyPatch, native: bool, precision: device.Precision
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(device, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert best_device() == Device("cuda", precision, precision)


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_that_is_hidden_is_not_looked_for(
    monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("it was looked for"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert best_device().name == "cpu"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in ...", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB)", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_a_full_gpu_is_told_as_too_little_memory(words: str, expected: bool) -> None:
    assert is_out_of_memory(RuntimeError(words)) == expected
