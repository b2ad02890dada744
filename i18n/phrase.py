"""Sentences that can be translated later.

A `Phrase` is an ordinary English `str`, which is what logs, files and programs see. It keeps the
template and values that it was made from, so that it can be translated when the reader is known,
even by another process. `i18n.catalogue` knows the languages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from string import Formatter
from typing import Any

from i18n.catalogue import ENGLISH, translate

COUNT = "count"
"""The value that selects singular or plural."""
SPACED_PARTS = re.compile(r"\{part\d+\}| ")
"""A template of `join_phrases` with spaces; Japanese has none between sentences."""
COMMA = ", "
COMMA_SEPARATED_PARTS = re.compile(r"\{part\d+\}(, \{part\d+\})+")
"""A template of `join_phrases` with commas, which look different in other languages."""
SERIALIZED_PREFIX = '{"text": '
"""The beginning of a serialized Phrase."""
SAFE_FORMAT_SPEC = re.compile(r",?(\.\d)?[a-z%]?")
"""The format specs allowed in a stored template. Others are not used, and a forged template could
exhaust memory with a width."""


class Phrase(str):
    """An English sentence that can be translated.

    `template` has a `{name}` for each of `values`, as in `str.format`; `plural` is the template for
    a `count` other than 1. Values that are Phrases are translated too.
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
        """The sentence in a language of `i18n.catalogue`; in English if the translation does not
        fit the values."""
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
    """A sentence that is translated when it is shown."""
    return Phrase(template, {name: _to_storable(value) for name, value in values.items()})


def phrases(one: str, many: str, /, count: int, **values: Any) -> Phrase:
    """A sentence with a singular and a plural: `{count} example`, `{count} examples`."""
    return Phrase(
        one, {COUNT: count, **{name: _to_storable(it) for name, it in values.items()}}, many
    )


def join_phrases(parts: Iterable[str], separator: str = " ") -> Phrase:
    """Several sentences as one. Translations adapt a separator that is a space or a comma, and no
    other."""
    named = {f"part{number}": part for number, part in enumerate(parts)}
    return Phrase(
        separator.replace("{", "{{").replace("}", "}}").join(f"{{{n}}}" for n in named), named
    )


def message_of(error: BaseException) -> str:
    """An error's message, as a Phrase if it was made from one: `str` gives English only."""
    first = error.args[0] if error.args else None
    return first if isinstance(first, Phrase) else str(error)


def serialize_phrase(sentence: str) -> str:
    """The sentence as a string for `deserialize_phrase`, to be stored or sent to another process.

    Other strings stay unchanged, unless they look like a serialized Phrase.
    """
    if sentence.startswith(SERIALIZED_PREFIX) and not isinstance(sentence, Phrase):
        sentence = join_phrases([sentence])
    if isinstance(sentence, Phrase):
        return json.dumps(_to_json(sentence), ensure_ascii=False)
    return sentence


def deserialize_phrase(stored: str) -> str:
    """The Phrase that was serialized, or else the string unchanged."""
    if not stored.startswith(SERIALIZED_PREFIX):
        return stored
    try:
        return _from_json(json.loads(stored))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return stored  # somebody's own words, which only look like a Phrase


def _translated_template(
    language: str, template: str, values: Mapping[str, Any], plural: str | None
) -> str:
    if COMMA_SEPARATED_PARTS.fullmatch(template):
        return template.replace(COMMA, translate(language, COMMA))
    return translate(language, template, plural, values[COUNT] if plural else 1)


def _fill(template: str, values: Mapping[str, Any]) -> str:
    return template.format(**values) if values else template


def _to_storable(value: object) -> object:
    """A value that JSON can hold: a number or a string; of an error, its message."""
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
    """Whether it only inserts values: `str.format` could also read attributes and items."""
    return all(
        name is None
        or (name.isidentifier() and not conversion and SAFE_FORMAT_SPEC.fullmatch(form or ""))
        for _, name, form, conversion in Formatter().parse(template)
    )
