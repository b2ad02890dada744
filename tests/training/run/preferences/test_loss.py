"""The losses of preferences against values that were worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from training.run.preferences.loss import (
    drift_of,
    kept_loss,
    pair_losses,
    taught_loss,
    vote_losses,
)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_votes_are_measured_from_the_drift() -> None:
    ratios, good = torch.tensor([3.0, 3.0, -2.0]), torch.tensor([True, False, False])
    losses = vote_losses(ratios, good, torch.tensor(1.0), beta=0.5)
    by_hand = [1 - sigmoid(0.5 * 2), 1 - sigmoid(0.5 * -2), 1 - sigmoid(0.5 * 3)]
    assert losses.tolist() == pytest.approx(by_hand)


def test_a_model_that_has_not_moved_has_half_the_loss_whatever_was_voted() -> None:
    losses = vote_losses(torch.zeros(2), torch.tensor([True, False]), torch.tensor(0.0))
    assert losses.tolist() == [0.5, 0.5]


def test_the_drift_is_a_mean_that_is_never_negative_and_has_no_gradient() -> None:
    ratios = torch.tensor([4.0, -1.0], requires_grad=True)
    assert drift_of(ratios).item() == 1.5
    assert not drift_of(ratios).requires_grad
    assert drift_of(torch.tensor([-4.0, 1.0])).item() == 0.0


def test_a_better_answer_is_measured_by_its_lead() -> None:
    losses = pair_losses(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0]), beta=0.1)
    assert losses.tolist() == pytest.approx([-math.log(sigmoid(0.2)), math.log(2)])


def test_what_must_stay_costs_the_square_of_its_change() -> None:
    assert kept_loss(torch.tensor([0.0, 2.0])).item() == 1.0


def test_what_is_taught_is_pulled_back_by_distance_and_what_is_sure_is_left_alone() -> None:
    before = torch.tensor([0.99, 0.99, 0.5, 0.5]).log()
    now = torch.tensor([0.95, 0.8, 0.4, 0.6]).log().requires_grad_()
    loss = taught_loss(now, before, sure=0.9)
    by_hand = (math.log(0.9 / 0.8) + math.log(0.5 / 0.4) + math.log(0.6 / 0.5)) / 4
    assert loss.item() == pytest.approx(by_hand)
    [gradient] = torch.autograd.grad(loss, now)
    assert gradient.tolist() == [0, -0.25, -0.25, 0.25]
