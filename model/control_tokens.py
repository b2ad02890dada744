"""Control tokens: which tokens of a tokenizer they are, and how typed text stays free of them.

A control token ends a turn or stands for no text. Those of a model from elsewhere are found by
rendering small conversations with its chat template.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, MutableMapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from model.own_templates import OWN_TEMPLATES

if TYPE_CHECKING:
    from tokenizers import AddedToken

    from model.tokenizer import AnyTokenizer

BYTE_PIECE_FORMAT = "<0x{:02X}>"
"""The pieces of single bytes in a sentencepiece model."""


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


def render(
    tokenizer: AnyTokenizer, turns: list[dict[str, Any]], *, add_generation_prompt: bool = True
) -> str:
    """The text of turns as they are, with nothing escaped."""
    texts: Any = tokenizer.apply_chat_template(
        [turns], tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(texts[0])
