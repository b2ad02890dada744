"""The chat template: renders messages to token ids, identically for serving and training.

Knows the tokenizer. Does not know the model, sampling or where messages come from. Pure: values
in, values out. The template itself is Jinja and travels with the checkpoint (Hugging Face
`chat_template`), so `apply_chat_template` of plain transformers renders what the bot renders.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from core.japanese import has_japanese_letter, has_kana
from core.records import Message, Role
from i18n.phrase import phrase

if TYPE_CHECKING:
    from tokenizers import AddedToken
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

_ONE_LINE = "message['content'].splitlines() | join(' ')"
"""Without any of Unicode's line breaks, so that no text can begin a line of another speaker."""
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    f"{{% if message['role'] == 'user' %}}User: {{{{ {_ONE_LINE} }}}}\n"
    f"{{% else %}}Bot:{{% generation %}} {{{{ {_ONE_LINE} }}}}\n"
    "{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Bot:{% endif %}"
)
"""For a base GPT-2, which has never seen control tokens: a transcript, one line per turn."""

_QUOTES = {"「": "『", "」": "』", "｢": "『", "｣": "』", "﹁": "『", "﹂": "』"}
_CONTENT = f"({_ONE_LINE})" + "".join(f" | replace({a!r}, {b!r})" for a, b in _QUOTES.items())
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

OWN_TEMPLATES = (CONTROL_TEMPLATE, PLAIN_TEMPLATE, JAPANESE_TEMPLATE)
"""They take any conversation, and end."""

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


def control_tokens(tokenizer: AnyTokenizer) -> dict[str, int]:
    """The tokens that end a turn or stand for no text, and their ids. Words that were added to the
    vocabulary are not among them, unless the chat template writes them."""
    fast: Any = tokenizer.backend_tokenizer
    added: dict[int, AddedToken] = fast.get_added_tokens_decoder()
    named = set(tokenizer.special_tokens_map.values())
    words = {n for n, one in added.items() if not one.special and one.content not in named}
    template = tokenizer.chat_template
    if words and template and template not in OWN_TEMPLATES:
        words -= _written_tokens(tokenizer)
    return {one.content: n for n, one in added.items() if n not in words}


_written: MutableMapping[AnyTokenizer, tuple[object, set[int]]] = WeakKeyDictionary()
"""By tokenizer, as every message asks for it: its template and vocabulary then, and the tokens."""


def _written_tokens(tokenizer: AnyTokenizer) -> set[int]:
    """The tokens of what the chat template writes around messages, and of all its strings."""
    from model.jinja_template import literal_text

    fast: Any = tokenizer.backend_tokenizer
    state = tokenizer.chat_template, fast.get_vocab_size()
    known, tokens = _written.get(tokenizer, (None, set()))
    if known != state:
        texts = [literal_text(tokenizer.chat_template), *_texts_around_messages(tokenizer)]
        tokens = {n for one in texts for n in fast.encode(one, add_special_tokens=False).ids}
        _written[tokenizer] = state, tokens
    return tokens


def _texts_around_messages(tokenizer: AnyTokenizer) -> Iterator[str]:
    """What the template writes in small conversations, which may have parts that are no strings of
    it, as in `'<|' + role + '|>'`."""
    from jinja2 import TemplateError

    from model.jinja_template import absent_number, fit_form

    number = absent_number(tokenizer.chat_template)
    for roles in (["user"], ["user", "assistant", "user"], ["system", "user"]):
        turns = [{"role": role, "content": number} for role in roles]
        with suppress(TemplateError):  # it takes no such conversation
            form = fit_form(turns, tokenizer.chat_template, lambda form: _render(tokenizer, form))
            yield _render(tokenizer, form).replace(number, "\0")


def escape_control_tokens(tokenizer: AnyTokenizer, text: str) -> str:
    """Break up control tokens in text that a person typed, so that they stay ordinary text.

    A tokenizer may normalise other characters to these, “＜/s＞” to “</s>”, so the normalised text
    is checked too. Byte pieces are control tokens as well: “<0xE3><0x80><0x8D>” would be a closing
    quote. A lone surrogate becomes a question mark. What is a control token even then is removed.
    """
    text = text.encode(errors="replace").decode()
    fast: Any = tokenizer.backend_tokenizer
    control = control_tokens(tokenizer)
    # the space around one may come from the template
    forms = [token.strip() or token for token in control]
    if fast.token_to_id(BYTE_PIECE_FORMAT.format(0)) is not None:
        forms.append(BYTE_PIECE_FORMAT[: BYTE_PIECE_FORMAT.index("{")])
    text = _break_up(text, forms)
    if fast.normalizer is not None:
        as_read = str(fast.normalizer.normalize_str(text))
        harmless = _break_up(as_read, forms)
        text = text if harmless == as_read else harmless
    if fast.normalizer is not None or any(_is_piece(fast, *one) for one in control.items()):
        roles = dict(tokenizer.special_tokens_map)
        unknown = roles.pop("unk_token", "")  # what has no other token, but for a role of its own
        allowed = control.get(unknown) if unknown not in roles.values() else None
        text = _without(fast, text, set(control.values()) - {allowed})
    if any(token.isspace() for token in control):
        text = text.strip()  # the template may have the rest of one around it
    return text


def _is_piece(fast: Any, token: str, number: int) -> bool:
    """Whether an added token is a piece of ordinary text, too, such as the sign of a byte."""
    return any(one.id == number for one in fast.model.tokenize(token))


def _break_up(text: str, tokens: Sequence[str]) -> str:
    for _ in range(len(text) + 1):
        if (found := next((token for token in tokens if token in text), None)) is None:
            return text
        text = text.replace(found, _broken(found, tokens))
    return ""  # breaking up one makes another, again and again


def _broken(token: str, tokens: Sequence[str]) -> str:
    """A token with a space inside; if that is one again, a space in its place, or nothing."""
    ways = (f"{token[0]} {token[1:]}", " ")
    return next((way for way in ways if not any(one in way for one in tokens)), "")


def _without(fast: Any, text: str, ids: Collection[int]) -> str:
    """The text without what is still read as one of `ids`."""
    while text:
        encoding = fast.encode(text, add_special_tokens=False)
        places = zip(encoding.ids, encoding.offsets, strict=True)
        place = next((place for number, place in places if number in ids), None)
        if place is None:
            break
        start, end = place
        text = text[:start] + text[end:] if start < end else ""
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
    """A message in Hugging Face's chat format, with control tokens escaped."""
    return {
        "role": message.role.value,
        "content": escape_control_tokens(tokenizer, message.content),
    }


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
        lambda form: _render(tokenizer, form, add_generation_prompt=add_generation_prompt),
    )


def _render(
    tokenizer: AnyTokenizer, turns: list[dict[str, Any]], *, add_generation_prompt: bool = True
) -> str:
    texts: Any = tokenizer.apply_chat_template(
        [turns], tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(texts[0])


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
        token_counts=_count_tokens(tokenizer, kept),
        num_dropped=len(messages) - len(kept),
        truncated=shortened,
    )


def _count_tokens(tokenizer: AnyTokenizer, messages: Sequence[Message]) -> tuple[int, ...]:
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
    rendered: Any = tokenizer.apply_chat_template(
        [to_turns(tokenizer, messages, add_generation_prompt)],
        add_generation_prompt=add_generation_prompt,
        tokenize=True,
        return_dict=False,
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
