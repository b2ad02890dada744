"""Control tokens: which tokens of a tokenizer they are, and how typed text stays free of them.

A control token ends a turn or stands for no text. Those of a model from elsewhere are found by
rendering small conversations with its chat template.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from model.own_templates import OWN_TEMPLATES

if TYPE_CHECKING:
    from tokenizers import AddedToken

    from model.tokenizer import AnyTokenizer

BYTE_PIECE_FORMAT = "<0x{:02X}>"
"""The pieces of single bytes in a sentencepiece model."""


@dataclass(frozen=True, slots=True)
class _ControlTokens:
    """`ids` by text; typed text is kept free of the `forms` as text, and of the `forbidden` ids.

    `any_is_piece`: ordinary text may be read as one of them; `any_is_space`: one is white space.
    """

    ids: Mapping[str, int]
    forms: Sequence[str]
    forbidden: Collection[int]
    any_is_piece: bool
    any_is_space: bool


_derived: MutableMapping[AnyTokenizer, tuple[object, _ControlTokens]] = WeakKeyDictionary()
"""By tokenizer, as every message asks for them: what they depend on, and the control tokens."""


def control_tokens(tokenizer: AnyTokenizer) -> Mapping[str, int]:
    """The tokens that end a turn or stand for no text, and their ids. Words that were added to the
    vocabulary are not among them, unless the chat template writes them."""
    return _control_tokens(tokenizer).ids


def _control_tokens(tokenizer: AnyTokenizer) -> _ControlTokens:
    vocabulary_size = tokenizer.backend_tokenizer.get_vocab_size()
    state = tokenizer.chat_template, vocabulary_size, dict(tokenizer.special_tokens_map)
    known, derived = _derived.get(tokenizer, (None, None))
    if derived is None or known != state:
        derived = _derive(tokenizer)
        _derived[tokenizer] = state, derived
    return derived


def _derive(tokenizer: AnyTokenizer) -> _ControlTokens:
    fast: Any = tokenizer.backend_tokenizer
    ids = _find_control_tokens(tokenizer)
    # the space around one may come from the template
    forms = [token.strip() or token for token in ids]
    if fast.token_to_id(BYTE_PIECE_FORMAT.format(0)) is not None:
        forms.append(BYTE_PIECE_FORMAT[: BYTE_PIECE_FORMAT.index("{")])
    roles = dict(tokenizer.special_tokens_map)
    unknown = roles.pop("unk_token", "")  # what has no other token, but for a role of its own
    allowed = ids.get(unknown) if unknown not in roles.values() else None
    return _ControlTokens(
        ids,
        forms,
        forbidden=set(ids.values()) - {allowed},
        any_is_piece=any(_is_piece(fast, *one) for one in ids.items()),
        any_is_space=any(token.isspace() for token in ids),
    )


def _find_control_tokens(tokenizer: AnyTokenizer) -> dict[str, int]:
    fast: Any = tokenizer.backend_tokenizer
    added: dict[int, AddedToken] = fast.get_added_tokens_decoder()
    named = set(tokenizer.special_tokens_map.values())
    words = {n for n, one in added.items() if not one.special and one.content not in named}
    template = tokenizer.chat_template
    if words and template and template not in OWN_TEMPLATES:
        words -= _written_tokens(tokenizer)
    return {one.content: n for n, one in added.items() if n not in words}


def _written_tokens(tokenizer: AnyTokenizer) -> set[int]:
    """The tokens of what the chat template writes around messages, and of all its strings."""
    from model.jinja_template import literal_text

    fast: Any = tokenizer.backend_tokenizer
    texts = [literal_text(tokenizer.chat_template), *_texts_around_messages(tokenizer)]
    return {n for one in texts for n in fast.encode(one, add_special_tokens=False).ids}


def _texts_around_messages(tokenizer: AnyTokenizer) -> Iterator[str]:
    """What the template writes in small conversations, which may have parts that are no strings of
    it, as in `'<|' + role + '|>'`."""
    from jinja2 import TemplateError

    from model.jinja_template import absent_number, fit_form

    number = absent_number(tokenizer.chat_template)
    for roles in (["user"], ["user", "assistant", "user"], ["system", "user"]):
        turns = [{"role": role, "content": number} for role in roles]
        with suppress(TemplateError):  # it takes no such conversation
            form = fit_form(turns, tokenizer.chat_template, lambda form: render(tokenizer, form))
            yield render(tokenizer, form).replace(number, "\0")


def escape_control_tokens(tokenizer: AnyTokenizer, text: str) -> str:
    """Break up control tokens in text that a person typed, so that they stay ordinary text.

    A tokenizer may normalise other characters to these, “＜/s＞” to “</s>”, so the normalised text
    is checked too. Byte pieces are control tokens as well: “<0xE3><0x80><0x8D>” would be a closing
    quote. A lone surrogate becomes a question mark. What is a control token even then is removed.
    """
    text = text.encode(errors="replace").decode()
    fast: Any = tokenizer.backend_tokenizer
    control = _control_tokens(tokenizer)
    text = _break_up(text, control.forms)
    if fast.normalizer is not None:
        as_read = str(fast.normalizer.normalize_str(text))
        harmless = _break_up(as_read, control.forms)
        text = text if harmless == as_read else harmless
    if fast.normalizer is not None or control.any_is_piece:
        text = _without(fast, text, control.forbidden)
    if control.any_is_space:
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


def render(
    tokenizer: AnyTokenizer, turns: list[dict[str, Any]], *, add_generation_prompt: bool = True
) -> str:
    """The text of turns as they are, with nothing escaped."""
    texts: Any = tokenizer.apply_chat_template(
        [turns], tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(texts[0])
