"""The optimiser of a model that begins from nothing."""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from training.run.optimizer import MuonWithAdamW

CONFIG = GPT2Config(
    vocab_size=64,
    n_positions=16,
    n_embd=32,
    n_layer=2,
    n_head=2,
    bos_token_id=0,
    eos_token_id=0,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
)


def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(CONFIG)


def learn(one: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
    rows = torch.arange(48).reshape(4, 12) % 60
    for _ in range(steps):
        loss = one(input_ids=rows, labels=rows).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return float(loss.detach())


def test_matrices_of_blocks_take_orthogonal_steps() -> None:
    one = model()
    before = copy.deepcopy(one.state_dict())
    learn(one, MuonWithAdamW(one, 0.01, 0.0), 1)
    change = one.state_dict()["transformer.h.0.mlp.c_fc.weight"]
    change = change - before["transformer.h.0.mlp.c_fc.weight"]
    sizes = torch.linalg.svdvals(change)
    # Newton and Schulz's five steps bring the singular values (but zero) near one.
    assert sizes[0] < 2 * sizes[-2]
    table = one.state_dict()["transformer.wte.weight"] - before["transformer.wte.weight"]
    assert torch.allclose(table[:48].abs(), torch.tensor(0.01), atol=2e-3)


def test_it_learns_and_goes_on_from_a_saved_state() -> None:
    one = model()
    optimizer = MuonWithAdamW(one, 0.01, 0.1)
    first = learn(one, optimizer, 5)
    other = copy.deepcopy(one)
    resumed = MuonWithAdamW(other, 0.01, 0.1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert learn(one, optimizer, 5) == learn(other, resumed, 5) < first


def test_a_schedule_sets_the_rate_of_both_parts() -> None:
    one = model()
    optimizer = MuonWithAdamW(one, 0.01, 0.0)
    before = copy.deepcopy(one.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    learn(one, optimizer, 1)
    assert all(torch.equal(value, before[name]) for name, value in one.state_dict().items())


def test_frozen_parameters_stay() -> None:
    one = model()
    one.get_input_embeddings().requires_grad_(False)
    before = one.get_input_embeddings().weight.clone()
    learn(one, MuonWithAdamW(one, 0.01, 0.1), 2)
    assert torch.equal(one.get_input_embeddings().weight, before)
