"""Sentences that can be said in more than one language.

A `Phrase` is an ordinary English `str`, which is what logs, files and programs see. It remembers
the template and the values that it was made from, so it can be said in another language later, by
another process too. Which languages there are is known to `i18n.catalogue`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from string import Formatter
from typing import Any, TypeGuard

from i18n.catalogue import ENGLISH, translate

COUNT = "count"
"""The value by which `phrases` chooses between its two templates."""
SPACED_PARTS = re.compile(r"\{part\d+\}| ")
"""What `join_phrases` makes of sentences with spaces between them; Japanese has none there."""
COMMA = ", "
COMMA_SEPARATED_PARTS = re.compile(r"\{part\d+\}(, \{part\d+\})+")
"""What `join_phrases` makes of a list with commas; other languages have commas of their own."""
SERIALIZED_PREFIX = '{"text": '
"""How a packed Phrase begins."""
SAFE_FORMAT_SPEC = re.compile(r",?(\.\d)?[a-z%]?")
"""How a value may be written in a stored template. More, such as a width, is not from us."""


class Phrase(str):
    """A sentence in English, and how it was made.

    `template` has a `{name}` for each of `values`, as `str.format` reads it; `plural` is its form
    for a `count` that is not one. Values that are Phrases are said in the other language as well.
    """

    template: str
    plural: str | None
    values: Mapping[str, Any]

    def __new__(
        cls, template: str, values: Mapping[str, Any] | None = None, plural: str | None = None
    ) -> Phrase:
        values = values or {}
        self = super().__new__(
            cls, _fill(_translated_template(ENGLISH, template, values, plural), values)
        )
        self.template, self.plural, self.values = template, plural, values
        return self

    def __reduce__(self) -> tuple[type[Phrase], tuple[str, Mapping[str, Any], str | None]]:
        return Phrase, (self.template, self.values, self.plural)

    def translate_to(self, language: str) -> str:
        """The sentence in a language of `i18n.catalogue`; in English where the translation does
        not fit its values."""
        values = {
            name: value.translate_to(language) if isinstance(value, Phrase) else value
            for name, value in self.values.items()
        }
        try:
            said = _fill(_translated_template(language, self.template, values, self.plural), values)
        except (ValueError, LookupError, TypeError, AttributeError):
            return str(self)
        return (
            said.replace("。 ", "。")
            if self.values and not SPACED_PARTS.sub("", self.template)
            else said
        )


def phrase(template: str, /, **values: Any) -> Phrase:
    """A sentence to be said later, in whatever language is read then."""
    return Phrase(template, {name: _to_storable(value) for name, value in values.items()})


def phrases(one: str, many: str, /, count: int, **values: Any) -> Phrase:
    """`{count} example` or `{count} examples`, as the language has it."""
    return Phrase(
        one, {COUNT: count, **{name: _to_storable(it) for name, it in values.items()}}, many
    )


def join_phrases(parts: Iterable[str], separator: str = " ") -> Phrase:
    """Several sentences as one. A language may change what is between them if it is a space or a
    comma; all else stays as it is."""
    named = {f"part{number}": part for number, part in enumerate(parts)}
    return Phrase(
        separator.replace("{", "{{").replace("}", "}}").join(f"{{{n}}}" for n in named), named
    )


def message_of(error: BaseException) -> str:
    """What an error says. If it was made of a Phrase it is that one: `str` gives English only."""
    first = error.args[0] if error.args else None
    return first if isinstance(first, Phrase) else str(error)


def serialize_phrase(sentence: str) -> str:
    """The sentence as a string that `deserialize_phrase` makes a Phrase of again; other strings
    stay as they are, unless they look like that. For the database and for lines of JSON."""
    if sentence.startswith(SERIALIZED_PREFIX) and not is_phrase(sentence):
        sentence = join_phrases([sentence])
    return json.dumps(_to_json(sentence), ensure_ascii=False) if is_phrase(sentence) else sentence


def deserialize_phrase(stored: str) -> str:
    """What was packed: a Phrase, or the string as it is."""
    if not stored.startswith(SERIALIZED_PREFIX):
        return stored
    try:
        return _from_json(json.loads(stored))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return stored  # somebody's own words that begin like that


def is_phrase(sentence: str) -> TypeGuard[Phrase]:
    """Whether it can be said in other languages."""
    return isinstance(sentence, Phrase)


def _translated_template(
    language: str, template: str, values: Mapping[str, Any], plural: str | None
) -> str:
    if COMMA_SEPARATED_PARTS.fullmatch(template):
        return template.replace(COMMA, translate(language, COMMA))
    return translate(language, template, plural, values[COUNT] if plural else 1)


def _fill(template: str, values: Mapping[str, Any]) -> str:
    return template.format(**values) if values else template


def _to_storable(value: object) -> object:
    """Values that can be stored: numbers, and words for all else; an error's are its own phrase."""
    match value:
        case str() | int() | float():
            return value
        case Integral():
            return int(value)
        case Real():
            return float(value)
        case BaseException():
            return message_of(value)
        case _:
            return str(value)


def _to_json(value: object) -> object:
    if not isinstance(value, Phrase):
        return value
    values = {name: _to_json(one) for name, one in value.values.items()}
    return {"text": value.template, "plural": value.plural, "values": values}


def _from_json(stored: dict[str, Any]) -> Phrase:
    values = {
        name: _from_json(one) if isinstance(one, dict) else one
        for name, one in stored["values"].items()
    }
    template, plural = stored["text"], stored["plural"]
    forms = [template] if plural is None else [template, plural]
    if not all(isinstance(form, str) and (not values or _is_safe_template(form)) for form in forms):
        raise ValueError(template)
    if plural is not None and not isinstance(values[COUNT], int):
        raise ValueError(plural)
    return Phrase(template, values, plural)


def _is_safe_template(template: str) -> bool:
    """Whether filling it in does no more than to write values down: `str.format` can do much."""
    return all(
        name is None
        or (name.isidentifier() and not conversion and SAFE_FORMAT_SPEC.fullmatch(form or ""))
        for _, name, form, conversion in Formatter().parse(template)
    )
