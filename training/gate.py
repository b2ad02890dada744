"""The checks that a new checkpoint passes before anybody chats with it.

Runs in the training process, on the model that was just saved. Imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.schema import Conversation, Message, Role
from model.chat import fit
from training.errors import CheckpointRejected

PROBES = ("Hello!", "How are you?", "What do you like to do?")
REPLY_TOKENS = 40


def check(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, taught: Sequence[Conversation]
) -> None:
    """Ask a few things, greedily; every answer must say something and not go round in circles.

    Raises:
        CheckpointRejected: the sentence quotes what was asked.
    """
    if not all(torch.isfinite(weight).all() for weight in model.parameters()):
        raise CheckpointRejected("Some of its weights are not numbers.")
    asked = [turns[0].content for turns in taught[:3] if turns] + list(PROBES)
    for text in asked:
        reply = _reply(model, tokenizer, text)
        said = str(tokenizer.decode(reply, skip_special_tokens=True)).strip()
        if not said:
            raise CheckpointRejected(f"It had no answer to “{text[:80]}”.")
        if is_repetitive(reply):
            raise CheckpointRejected(f"It repeated itself when asked “{text[:80]}”: “{said[:80]}”.")


def is_repetitive(tokens: Sequence[int]) -> bool:
    """Whether fewer than a third of the 3-grams of at least 15 tokens are distinct."""
    if len(tokens) < 15:
        return False
    grams = [tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2)]
    return len(set(grams)) * 3 < len(grams)


@torch.inference_mode()
def _reply(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    model.train(False)
    budget = int(model.config.n_positions) - REPLY_TOKENS
    prompt = fit(tokenizer, [Message(Role.USER, text)], budget)
    ids = torch.tensor([prompt.input_ids], device=model.device)
    generate: Any = model.generate  # its types are too wide to be of use
    out: Any = generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=REPLY_TOKENS,
        do_sample=False,
        pad_token_id=tokenizer.eos_token_id,
    )
    return [int(token) for token in out[0, ids.shape[1] :] if token != tokenizer.eos_token_id]
