"""A file `.env` in which some values are set, while the rest of it stays as it is.

Knows the format as `dotenv` reads it; knows no settings.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from io import StringIO

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from bot.settings import SettingsError
from i18n.phrase import phrase

UNQUOTED = re.compile(r"[A-Za-z0-9._,:/@%+-]*")
"""Values that need no quotation marks, for programs that take these literally too."""
LEAD = re.compile(r"\s*(?:export[^\S\r\n]+)?")
COMMENT = re.compile(r"[^\S\r\n]+#[^\r\n]*$")
FIRST_WORD = re.compile(rf"{LEAD.pattern}(\w+)")


@dataclass(frozen=True, slots=True)
class Change:
    """A line that is replaced, or added if `before` is None."""

    name: str
    before: str | None
    after: str


def values_in(text: str) -> dict[str, str]:
    """The values that the bot reads from a file, by their names in capitals."""
    found = dotenv_values(stream=StringIO(text))
    return {name.upper(): value for name, value in found.items() if value is not None}


def set_values(text: str, values: Mapping[str, str]) -> tuple[str, list[Change]]:
    """The text with these values, and what is different in it.

    Raises:
        SettingsError: the file is too broken for the values to be read back, or for other lines
            to stay.
    """
    present = values_in(text)
    bindings = list(parse_stream(StringIO(text, newline="")))
    parts: list[str] = []
    changes: list[Change] = []
    for binding in bindings:
        name, line = _name(binding), binding.original.string
        if name in values and _value(binding, parts) != values[name]:
            new = _replaced(binding, f"{name}={quote(values[name])}")
            changes.append(Change(name, line.strip(), new.strip()))
            line = new
        parts.append(line)
    known, end = {_name(one) for one in bindings}, "\r\n" if "\r\n" in text else "\n"
    if parts and not parts[-1].endswith(("\n", "\r")):
        parts.append(end)
    for name, value in values.items():
        if name not in known:
            changes.append(Change(name, None, f"{name}={quote(value)}"))
            parts.append(f"{changes[-1].after}{end}")
    made = "".join(parts)
    read = values_in(made)
    as_wanted = read.keys() == present.keys() | values.keys() and values.items() <= read.items()
    if not as_wanted or _takes_lines_along(bindings, values):
        raise SettingsError(
            phrase(
                "The file .env has a line that cannot be read, such as one with an opening "
                "quotation mark only: correct it, then run `gpt2bot setup` again."
            )
        )
    return made, changes


def quote(value: str) -> str:
    """The value as a file has it, so that it is read back exactly."""
    if UNQUOTED.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    # `${NAME}` is replaced even in quotation marks; of a variable without a name, by its default.
    return "'" + escaped.replace("${", "${:-$}{") + "'"


def _name(binding: Binding) -> str:
    """The name that is set, in capitals; of a line that sets none, its first word."""
    if binding.value is not None:
        return (binding.key or "").upper()
    word = FIRST_WORD.match(binding.original.string)
    return word[1].upper() if word else ""


def _value(binding: Binding, before: Iterable[str]) -> str | None:
    """The value that a binding has below these lines, to which it may refer."""
    if "${" not in (binding.value or ""):
        return binding.value
    text = "".join([*before, binding.original.string])
    return dotenv_values(stream=StringIO(text))[binding.key or ""]


def _takes_lines_along(bindings: Iterable[Binding], names: Container[str]) -> bool:
    """Whether a quotation mark without an end makes other lines part of a broken one, or of one
    of these names."""
    return any(
        "\n" in one.original.string.strip() and (one.error or _name(one) in names)
        for one in bindings
    )


def _replaced(binding: Binding, line: str) -> str:
    """The text of a binding with another line in it; a comment behind the value stays."""
    old = binding.original.string
    body = old.rstrip("\r\n")
    lead = LEAD.match(old)
    comment = None if "#" in (binding.value or "") else COMMENT.search(body)
    return f"{lead[0] if lead else ''}{line}{comment[0] if comment else ''}{old[len(body) :]}"
