"""A file `.env` in which some values are set, while the rest of it stays as it is.

Knows the format as `dotenv` reads it; knows no settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
        SettingsError: the file is too broken for the values to be read back.
    """
    present = values_in(text)
    wanted = {name: value for name, value in values.items() if present.get(name) != value}
    parts, changes = [], []
    for binding in parse_stream(StringIO(text, newline="")):
        name, line = (binding.key or "").upper(), binding.original.string
        if name in wanted:
            new = _replaced(binding, f"{name}={quote(wanted[name])}")
            changes.append(Change(name, line.strip(), new.strip()))
            line = new
        parts.append(line)
    known, end = {change.name for change in changes}, "\r\n" if "\r\n" in text else "\n"
    if parts and not parts[-1].endswith(("\n", "\r")):
        parts.append(end)
    for name, value in wanted.items():
        if name not in known:
            changes.append(Change(name, None, f"{name}={quote(value)}"))
            parts.append(f"{changes[-1].after}{end}")
    made = "".join(parts)
    read = values_in(made)
    if read.keys() != present.keys() | values.keys() or not values.items() <= read.items():
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


def _replaced(binding: Binding, line: str) -> str:
    """The text of a binding with another line in it; a comment behind the value stays."""
    old = binding.original.string
    body = old.rstrip("\r\n")
    lead = LEAD.match(old)
    comment = None if "#" in (binding.value or "") else COMMENT.search(body)
    return f"{lead[0] if lead else ''}{line}{comment[0] if comment else ''}{old[len(body) :]}"
