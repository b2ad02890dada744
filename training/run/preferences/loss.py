"""The losses of preferences: of votes, of better answers, and of what must stay. Imports torch.

All take log-ratios: how much more likely a reply (or token) has become than it was in the
reference, the model before the stage, in nats. They are tensors of any floating type.
"""

from __future__ import annotations

import math

import torch
from torch import nn

BETA = 0.1
"""How far a log-ratio moves the loss; both papers take it."""


def vote_losses(
    log_ratios: torch.Tensor, good: torch.Tensor, drift: torch.Tensor, beta: float = BETA
) -> torch.Tensor:
    """The losses of voted replies (n,): `log_ratios` of whole replies (n,), whether each is `good`
    (bool, n), and the `drift` (a scalar without a gradient), which estimates the divergence from
    the reference. Source: KTO, Ethayarajh et al. 2024, arXiv:2402.01306."""
    margins = torch.where(good, log_ratios - drift, drift - log_ratios)
    return 1 - torch.sigmoid(beta * margins)


def drift_of(log_ratios: torch.Tensor) -> torch.Tensor:
    """The drift, from the log-ratios of replies put behind questions that they do not answer
    (n,): their mean, but never negative, as KTO estimates it."""
    return log_ratios.detach().mean().clamp(min=0)


def pair_losses(good: torch.Tensor, bad: torch.Tensor, beta: float = BETA) -> torch.Tensor:
    """The losses of better answers (n,), from the log-ratios of the `good` and the `bad` replies
    (n,). Source: DPO, Rafailov et al. 2023, arXiv:2305.18290, equation 7."""
    return -nn.functional.logsigmoid(beta * (good - bad))


def kept_loss(log_ratios: torch.Tensor) -> torch.Tensor:
    """The loss of tokens that should be as likely as before, from their log-ratios (tokens,): half
    the mean square, which estimates the KL divergence with little variance (Schulman 2020,
    "Approximating KL Divergence", the estimator k2)."""
    return (log_ratios**2).mean() / 2


def taught_loss(now: torch.Tensor, before: torch.Tensor, sure: float) -> torch.Tensor:
    """The loss of taught tokens that should be as likely as before, from their log-probabilities
    now and before (tokens,): the mean distance of both, where whatever is more likely than `sure`
    (a probability) is as good as that. The mean square of `kept_loss` hardly pulls at what has
    moved a little, and a fact that was learned just well enough is lost by a little."""
    most = math.log(sure)
    return (before.clamp(max=most) - now.clamp(max=most)).abs().mean()
