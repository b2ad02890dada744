"""Muon, the optimiser of a model that begins from nothing, with AdamW for what is no matrix.

Knows torch. Does not know the Trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

ADAMW_BETAS = (0.9, 0.95)


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the matrices of the blocks, AdamW for everything else: embeddings, norms, biases.

    Source: Jordan et al. 2024, "Muon"; the step is scaled to that of AdamW (Liu et al. 2025, "Muon
    is scalable for LLM training"), so both take one `learning_rate`. A matrix has all directions
    trained at the same rate, so a small model learns from far fewer tokens than with AdamW
    (docs/benchmarks.md)."""

    def __init__(self, model: nn.Module, learning_rate: float, weight_decay: float) -> None:
        matrices, others = _split(model)
        self._parts: Sequence[torch.optim.Optimizer] = (
            torch.optim.Muon(
                matrices,
                learning_rate,
                weight_decay=weight_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(others, learning_rate, betas=ADAMW_BETAS, weight_decay=0.0),
        )
        super().__init__([*matrices, *others], {"lr": learning_rate})
        # The same dictionaries: a schedule that sets a rate here sets it there.
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        with torch.enable_grad():
            loss = closure() if closure else None
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self._parts for group in part.param_groups]


def _split(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The matrices of the blocks, and all other trainable parameters."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, one in model.named_parameters():
        if one.requires_grad:
            (matrices if one.ndim == 2 and ".h." in f".{name}" else others).append(one)
    return matrices, others
