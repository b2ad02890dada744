"""The chat template: renders messages to token ids, identically for serving and training.

Knows the tokenizer. Does not know the model, sampling or where messages come from. Pure: values
in, values out. The template itself is Jinja and travels with the checkpoint (Hugging Face
`chat_template`), so `apply_chat_template` of plain transformers renders what the bot renders.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core.letters import normalize_letters
from core.records import Message, Role
from i18n.phrase import phrase
from model.control_tokens import escape_control_tokens, render
from model.own_templates import OWN_TEMPLATES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from model.tokenizer import AnyTokenizer

REPLACEMENT_CHAR = "\N{REPLACEMENT CHARACTER}"
"""What decoding gives for an incomplete character."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a conversation; `assistant_mask` is 1 for tokens of the bot's turns."""

    input_ids: list[int]
    assistant_mask: list[int]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The model's input; `text` is `input_ids` decoded, with control tokens.

    `messages` are those that fit, oldest first; `num_dropped` older ones did not. `truncated`: the
    newest message itself lost its beginning.
    """

    input_ids: list[int]
    text: str
    messages: tuple[Message, ...]
    num_dropped: int
    truncated: bool


def encode(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    *,
    add_generation_prompt: bool = False,
) -> list[Encoded]:
    """Render and tokenize conversations, with their loss masks."""
    if not conversations:
        return []
    out: Any = tokenizer.apply_chat_template(
        [to_turns(tokenizer, one, add_generation_prompt) for one in conversations],
        add_generation_prompt=add_generation_prompt,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    return [
        Encoded(list(ids), list(mask))
        for ids, mask in zip(out["input_ids"], out["assistant_masks"], strict=True)
    ]


def to_chat_dict(tokenizer: AnyTokenizer, message: Message) -> dict[str, str]:
    """A message in Hugging Face's chat format: usual letters, control tokens escaped."""
    return {
        "role": message.role.value,
        "content": _as_read(tokenizer, message),
    }


def _as_read(tokenizer: AnyTokenizer, message: Message) -> str:
    return escape_control_tokens(tokenizer, normalize_letters(message.content))


def to_turns(
    tokenizer: AnyTokenizer, messages: Sequence[Message], add_generation_prompt: bool
) -> list[dict[str, Any]]:
    """The messages in the form that the chat template takes, and shows the text of.

    Raises:
        jinja2.TemplateError: it takes none.
    """
    from model.jinja_template import fit_form

    turns: list[dict[str, Any]] = [to_chat_dict(tokenizer, message) for message in messages]
    if not turns or tokenizer.chat_template in OWN_TEMPLATES:
        return turns
    return fit_form(
        turns,
        tokenizer.chat_template,
        lambda form: render(tokenizer, form, add_generation_prompt=add_generation_prompt),
    )


def build_prompt(tokenizer: AnyTokenizer, messages: Sequence[Message], budget: int) -> Prompt:
    """The newest messages that fit `budget` tokens, rendered with the generation prompt.

    The oldest messages are dropped first. If the newest alone is too long, only its end is kept.

    Raises:
        ValueError: there is no message, or `budget` cannot hold even an empty one.
    """
    if not messages:
        raise ValueError("a prompt needs at least one message")
    newest, shortened = _truncate(tokenizer, messages[-1], budget)
    kept = [newest] if shortened else [*messages[:-1], newest]
    while len(ids := encode_chat(tokenizer, kept)) > budget and len(kept) > 1:
        del kept[0]
    # a template that takes no answers at the beginning has left them out
    while (
        len(kept) > 1 and kept[0].role is Role.ASSISTANT and ids == encode_chat(tokenizer, kept[1:])
    ):
        del kept[0]
    return Prompt(
        input_ids=ids,
        text=str(tokenizer.decode(ids)),
        messages=tuple(kept),
        num_dropped=len(messages) - len(kept),
        truncated=shortened,
    )


def count_tokens(tokenizer: AnyTokenizer, messages: Sequence[Message]) -> tuple[int, ...]:
    """By how many tokens each message makes the prompt longer; 0 for one after which the template
    takes no end."""
    if tokenizer.chat_template in OWN_TEMPLATES:  # each message is rendered as if it were alone
        return tuple(
            len(encode_chat(tokenizer, [one], add_generation_prompt=False)) for one in messages
        )
    from jinja2 import TemplateError

    lengths = [0]
    for end in range(1, len(messages) + 1):
        length = 0
        with suppress(TemplateError):
            length = len(encode_chat(tokenizer, messages[:end], add_generation_prompt=False))
        lengths.append(max(length, lengths[-1]))
    return tuple(after - before for before, after in itertools.pairwise(lengths))


def _truncate(tokenizer: AnyTokenizer, message: Message, budget: int) -> tuple[Message, bool]:
    if len(encode_chat(tokenizer, [message])) <= budget:
        return message, False
    if len(encode_chat(tokenizer, [replace(message, content="")])) > budget:
        raise ValueError(
            phrase("a budget of {budget} tokens cannot hold any message", budget=budget)
        )
    ids = tokenizer.encode(_as_read(tokenizer, message), add_special_tokens=False)
    unknown = tokenizer.get_vocab().get(str(tokenizer.unk_token))  # it would be decoded as its name
    ids = [one for one in ids if one != unknown]
    tail = budget
    while True:  # re-encoding decoded text may give more tokens: take fewer until it fits
        tail_text = str(tokenizer.decode(ids[-tail:])) if tail else ""
        shorter = replace(message, content=tail_text.lstrip(REPLACEMENT_CHAR))
        over = len(encode_chat(tokenizer, [shorter])) - budget
        if over <= 0:
            return shorter, True
        tail = max(0, tail - over)


def encode_chat(
    tokenizer: AnyTokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = True
) -> list[int]:
    """The token ids of a conversation."""
    rendered: Any = tokenizer.apply_chat_template(
        [to_turns(tokenizer, messages, add_generation_prompt)],
        add_generation_prompt=add_generation_prompt,
        tokenize=True,
        return_dict=False,
    )
    return list(rendered[0])


def from_pair(user: str, bot: str) -> tuple[Message, Message]:
    """A `{"user", "bot"}` pair as a conversation of two messages."""
    return Message(Role.USER, user), Message(Role.ASSISTANT, bot)
