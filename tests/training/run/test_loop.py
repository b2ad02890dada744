"""The loop's own parts: the loss on labelled positions, and what it hears between steps."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from model.chat_template import from_pair
from model.registry import EMBEDDED_FOLDER
from training.jobs.folder import COMPLETE_MARKER, STEPS_DIR, latest_saved_step
from training.run import tokenization
from training.run.loop import Control, logits_on_labels_only


def test_the_loss_and_its_gradients_are_those_of_transformers(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED_FOLDER, dtype=torch.float32)
    pairs = [from_pair("Hello", "Hi!"), from_pair("Where are you from?", "From the sea.")]
    rows = tokenization.examples(tokenizer, pairs, 32, "bot")
    batch = tokenization.collate(rows.to_list(), pad_id=tokenizer.eos_token_id)

    def learn() -> tuple[float, torch.Tensor]:
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        return loss.item(), model.transformer.wte.weight.grad.clone()

    theirs, their_gradient = learn()
    with logits_on_labels_only(model):
        ours, gradient = learn()
        halves = model(**batch, num_items_in_batch=2 * int((batch["labels"] != -100).sum()))
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert torch.allclose(gradient, their_gradient, atol=1e-6)
    assert halves.loss.item() == pytest.approx(theirs / 2, abs=1e-5)
    assert model(**batch).logits is not None, "afterwards it is the ordinary model again"


def test_packed_rows_teach_what_padded_ones_do(tokenizer: PreTrainedTokenizerBase) -> None:
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED_FOLDER, dtype=torch.float32)
    pairs = [from_pair("Hello", "Hi!"), from_pair("Where are you from?", "From the sea.")]
    rows = tokenization.examples(tokenizer, pairs, 128, "bot").to_list()
    padded = tokenization.collate(rows, pad_id=tokenizer.eos_token_id)
    packed = tokenization.pack(rows, width=128, pad_id=tokenizer.eos_token_id)
    assert (len(padded["input_ids"]), len(packed["input_ids"])) == (2, 1)

    found = []
    with logits_on_labels_only(model):
        for batch in (padded, packed):
            model.zero_grad()
            loss = model(**batch).loss
            loss.backward()
            found.append((loss.item(), model.transformer.wte.weight.grad.clone()))
    [(loss, gradient), (packed_loss, packed_gradient)] = found
    assert packed_loss == pytest.approx(loss, abs=1e-5)
    assert torch.allclose(packed_gradient, gradient, atol=1e-6)


def test_a_run_that_is_held_waits_until_it_may_go_or_is_paused() -> None:
    control = Control()
    assert control.wait_while_held() < 1, "nothing holds it"
    for word in ("go", "pause"):
        control = Control()
        control.receive("hold")
        waiting = threading.Thread(target=control.wait_while_held)
        waiting.start()
        assert waiting.is_alive()
        control.receive(word)
        waiting.join(timeout=30)
        assert not waiting.is_alive()
    control.receive("hold")
    assert control.wait_while_held() < 1, "a run that ends is not held any more"


def test_only_a_step_that_was_saved_wholly_is_gone_on_from(tmp_path: Path) -> None:
    assert latest_saved_step(tmp_path) is None
    for step in (9, 10, 11):
        (tmp_path / STEPS_DIR / f"checkpoint-{step}").mkdir(parents=True)
    assert latest_saved_step(tmp_path) is None
    for step in (9, 10):
        mark = tmp_path / STEPS_DIR / f"checkpoint-{step}" / COMPLETE_MARKER
        mark.write_text(json.dumps({"step": step, "seconds": 1.5}))
    found = latest_saved_step(tmp_path)
    assert found is not None
    assert (found.step, found.folder.name) == (10, "checkpoint-10")
