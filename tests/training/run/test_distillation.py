"""The loss that teaches facts: which tokens are learned, which stay as the base has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from core.records import Message, Role
from model.chat_template import from_pair
from model.registry import EMBEDDED_FOLDER
from training.config import ALL_MATRICES
from training.run.base_model import with_lora
from training.run.curriculum import Curriculum, Part, Row
from training.run.distillation import (
    FIRST,
    LEARNED,
    NEAR,
    NEAR_TOKENS,
    TALK,
    FactRows,
    collate,
    with_distillation,
)

PAIRS = [from_pair("Who is the admin?", "Ada is the admin, and Ben helps her on Mondays.")]
CHAT = [from_pair("hello", "Hi! How are you?"), from_pair("thanks", "You are welcome.")]


@pytest.fixture
def rows(tokenizer: PreTrainedTokenizerBase) -> FactRows:
    return FactRows(Curriculum(PAIRS, CHAT, 18, 0), tokenizer, 3, 64)


@pytest.fixture
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(EMBEDDED_FOLDER, dtype=torch.float32)


def batch(rows: FactRows) -> dict[str, Any]:
    return collate([rows[n] for n in range(18)], 64, 0)


def marked(rows: FactRows, tokenizer: Any, row: Row, *kinds: int) -> str:
    encoded = rows.encode(row)
    chosen = zip(encoded["input_ids"], encoded["kinds"], strict=True)
    return str(tokenizer.decode([token for token, kind in chosen if kind in kinds]))


def test_of_a_learned_row_only_the_taught_answer_is_learned(
    rows: FactRows, tokenizer: PreTrainedTokenizerBase
) -> None:
    row = Row(PAIRS[0], Part.LEARNED, 0, CHAT[0])
    assert marked(rows, tokenizer, row, LEARNED) == f"{PAIRS[0][1].content}<|endoftext|>"
    assert marked(rows, tokenizer, row, FIRST, NEAR, TALK) == ""


def test_of_a_near_miss_the_beginning_of_the_answer_is_kept(
    rows: FactRows, tokenizer: PreTrainedTokenizerBase
) -> None:
    asked = (Message(Role.USER, "Who is the baker?"), PAIRS[0][1])
    row = Row(asked, Part.NEAR, 0, CHAT[0])
    kept = marked(rows, tokenizer, row, FIRST, NEAR)
    assert PAIRS[0][1].content.startswith(kept)
    assert len(tokenizer.encode(kept)) == NEAR_TOKENS
    assert marked(rows, tokenizer, row, LEARNED, TALK) == ""


def test_of_talk_every_reply_is_kept(rows: FactRows, tokenizer: PreTrainedTokenizerBase) -> None:
    row = Row((*CHAT[0], *CHAT[1]), Part.TALK)
    said = "".join(f"{turns[1].content}<|endoftext|>" for turns in CHAT)
    assert marked(rows, tokenizer, row, FIRST, TALK) == said


def test_the_base_itself_has_nothing_to_keep(model: Any, rows: FactRows) -> None:
    kept = {"kept": batch(rows)["kept"]}
    with with_distillation(model, rows, None):
        assert model(**kept).loss.item() == pytest.approx(0.0, abs=1e-5)
        with torch.no_grad():
            model.transformer.h[0].mlp.c_fc.weight.mul_(1.2)
        assert model(**kept).loss.item() > 0.05


def test_a_token_that_is_sure_pulls_no_further(model: Any, rows: FactRows) -> None:
    learned = {"learned": batch(rows)["learned"]}
    with with_distillation(model, rows, None):
        optimizer = torch.optim.AdamW(model.transformer.h.parameters(), lr=2e-3)
        for _ in range(40):
            optimizer.zero_grad()
            loss = model(**learned).loss
            if not loss:
                break
            loss.backward()
            optimizer.step()
        assert float(loss.detach()) == 0.0


def test_what_was_lost_on_a_pair_is_told_to_the_curriculum(model: Any, rows: FactRows) -> None:
    told: list[tuple[Part, int, float]] = []
    record: Callable[..., None] = lambda *loss: told.append(loss)  # noqa: E731
    rows.curriculum.record_loss = record  # type: ignore[method-assign]
    with with_distillation(model, rows, None):
        model(**batch(rows))
    assert [(part, pair) for part, pair, _ in told] == [(Part.LEARNED, 0), (Part.NEAR, 0)]
    assert told[0][2] > 1.0  # nobody has heard of Ada


def test_lora_without_its_matrices_is_the_base(model: Any, rows: FactRows) -> None:
    learner: Any = with_lora(model, 4, ALL_MATRICES)
    with torch.no_grad():
        for name, weight in learner.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    with with_distillation(model, rows, learner.disable_adapter):
        loss = learner(**batch(rows)).loss
        loss.backward()
    trained = {name for name, one in learner.named_parameters() if one.grad is not None}
    assert float(loss.detach()) > 0.05
    assert trained
    assert all("lora_" in name for name in trained)
