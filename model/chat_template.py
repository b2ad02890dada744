"""The chat template: renders messages to token ids, identically for serving and training.

Knows the tokenizer. Does not know the model, sampling or where messages come from. Pure: values
in, values out. The template itself is Jinja and travels with the checkpoint (Hugging Face
`chat_template`), so `apply_chat_template` of plain transformers renders what the bot renders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core.japanese import has_japanese_letter, has_kana
from core.records import Message, Role
from i18n.phrase import phrase

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from model.tokenizer import Tokenizer

    AnyTokenizer = PreTrainedTokenizerBase | Tokenizer
    """The tokenizer of training and that of the worker; both give the same ids."""

BYTE_PIECE_FORMAT = "<0x{:02X}>"
"""The pieces of single bytes in a sentencepiece model."""
REPLACEMENT_CHAR = "\N{REPLACEMENT CHARACTER}"
"""What decoding gives for an incomplete character."""
USER_TOKEN = "<|user|>"
BOT_TOKEN = "<|bot|>"

CONTROL_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}{{ eos_token }}"
    "{% else %}<|bot|>{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)
"""For models trained by this project: each turn starts with a control token and ends with EOS."""

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}User: {{ message['content'] | replace('\n', ' ') }}\n"
    "{% else %}Bot:{% generation %} {{ message['content'] | replace('\n', ' ') }}\n"
    "{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Bot:{% endif %}"
)
"""For a base GPT-2, which has never seen control tokens: a transcript, one line per turn."""

_QUOTES = {"「": "『", "」": "』", "｢": "『", "｣": "』", "﹁": "『", "﹂": "』", "\n": " "}
_CONTENT = "message['content']" + "".join(f" | replace({a!r}, {b!r})" for a, b in _QUOTES.items())
JAPANESE_TEMPLATE = (
    "{% for message in messages %}"
    f"{{% if message['role'] == 'user' %}}ユーザー「{{{{ {_CONTENT} }}}}」"
    f"{{% else %}}ボット「{{% generation %}}{{{{ {_CONTENT} }}}}」"
    "{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ボット「{% endif %}"
)
"""For a Japanese base model: turns in quotation marks, as dialogue in a novel.

Many of these models have no token for a newline. Quotes within a turn become 『』, as is customary.
"""

MIN_JAPANESE_SHARE, MIN_KANA_SHARE = 0.1, 0.02
"""Shares of tokens with a Japanese letter, and a kana, in a Japanese vocabulary. GPT-2's own has
0.4% and 0.3%."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a conversation; `assistant_mask` is 1 for tokens of the bot's turns."""

    input_ids: list[int]
    assistant_mask: list[int]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The model's input; `text` is `input_ids` decoded, with control tokens.

    `messages` are those that fit, oldest first, with `token_counts` tokens each; `num_dropped`
    older ones did not. `truncated`: the newest message itself lost its beginning.
    """

    input_ids: list[int]
    text: str
    messages: tuple[Message, ...]
    token_counts: tuple[int, ...]
    num_dropped: int
    truncated: bool


def ensure_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a chat template a plain one, and EOS as its PAD token."""
    if not tokenizer.chat_template:
        tokenizer.chat_template = plain_template(tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def stop_strings(tokenizer: AnyTokenizer) -> tuple[str, ...]:
    """What ends a turn of the plain templates: a newline or a closing quote. Others have EOS."""
    return {PLAIN_TEMPLATE: ("\n",), JAPANESE_TEMPLATE: ("」",)}.get(tokenizer.chat_template, ())


def plain_template(tokenizer: AnyTokenizer) -> str:
    """The template for a base model without one."""
    return JAPANESE_TEMPLATE if is_japanese(tokenizer) else PLAIN_TEMPLATE


def is_japanese(tokenizer: AnyTokenizer) -> bool:
    """Whether the vocabulary was made for Japanese, and so the model trained on it."""
    fast: Any = tokenizer.backend_tokenizer
    texts = fast.decode_batch([[n] for n in range(fast.get_vocab_size())])
    kana, letters = (sum(map(has, texts)) for has in (has_kana, has_japanese_letter))
    return bool(kana >= MIN_KANA_SHARE * len(texts) and letters >= MIN_JAPANESE_SHARE * len(texts))


def escape_control_tokens(tokenizer: AnyTokenizer, text: str) -> str:
    """Break up control tokens in text that a person typed, so that they stay ordinary text.

    A tokenizer may normalise other characters to these, “＜/s＞” to “</s>”, so the normalised text
    is checked too. Byte pieces are control tokens as well: “<0xE3><0x80><0x8D>” would be a closing
    quote. A lone surrogate becomes a question mark.
    """
    text = text.encode(errors="replace").decode()
    fast: Any = tokenizer.backend_tokenizer
    added = tokenizer.get_added_vocab()
    tokens = [token for token in added if len(token) > 1 and not token.isspace()]
    if fast.token_to_id(BYTE_PIECE_FORMAT.format(0)) is not None:
        tokens.append(BYTE_PIECE_FORMAT[: BYTE_PIECE_FORMAT.index("{")])
    text = _break_up(text, tokens)
    if fast.normalizer is None:
        return text
    as_read = str(fast.normalizer.normalize_str(text))
    harmless = _break_up(as_read, tokens)
    return text if harmless == as_read else harmless


def _break_up(text: str, tokens: Sequence[str]) -> str:
    while found := next((token for token in tokens if token in text), None):
        text = text.replace(found, f"{found[0]} {found[1:]}")
    return text


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
        [[to_chat_dict(tokenizer, message) for message in turns] for turns in conversations],
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
    """A message in Hugging Face's chat format, with control tokens escaped."""
    return {
        "role": message.role.value,
        "content": escape_control_tokens(tokenizer, message.content),
    }


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
    return Prompt(
        input_ids=ids,
        text=str(tokenizer.decode(ids)),
        messages=tuple(kept),
        token_counts=tuple(
            len(encode_chat(tokenizer, [one], add_generation_prompt=False)) for one in kept
        ),
        num_dropped=len(messages) - len(kept),
        truncated=shortened,
    )


def _truncate(tokenizer: AnyTokenizer, message: Message, budget: int) -> tuple[Message, bool]:
    if len(encode_chat(tokenizer, [message])) <= budget:
        return message, False
    if len(encode_chat(tokenizer, [replace(message, content="")])) > budget:
        raise ValueError(
            phrase("a budget of {budget} tokens cannot hold any message", budget=budget)
        )
    ids = tokenizer.encode(
        escape_control_tokens(tokenizer, message.content), add_special_tokens=False
    )
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
    turns = [[to_chat_dict(tokenizer, message) for message in messages]]
    rendered: Any = tokenizer.apply_chat_template(
        turns, add_generation_prompt=add_generation_prompt, tokenize=True, return_dict=False
    )
    return list(rendered[0])


def add_control_tokens(tokenizer: PreTrainedTokenizerBase) -> int:
    """Add the control tokens and their template to a base tokenizer; how many tokens were new."""
    added = tokenizer.add_special_tokens({"additional_special_tokens": [USER_TOKEN, BOT_TOKEN]})
    tokenizer.chat_template = CONTROL_TEMPLATE
    return int(added)


def from_pair(user: str, bot: str) -> tuple[Message, Message]:
    """A `{"user", "bot"}` pair as a conversation of two messages."""
    return Message(Role.USER, user), Message(Role.ASSISTANT, bot)
