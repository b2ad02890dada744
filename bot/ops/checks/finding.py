"""What a check finds, as values."""

from __future__ import annotations

from dataclasses import dataclass

from i18n.phrase import Phrase, phrase


@dataclass(frozen=True, slots=True)
class Finding:
    """`detail` is what is so; `advice` what to do about it, where it is not `ok`.

    They and the `name` are Phrases where they have words: programs read English, people theirs.
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""


def format_megabytes(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e6:,.0f} MB"


def refer_to_finding(name: str) -> Phrase:
    """The advice of a check that depends on another one."""
    return phrase("See the line “{name}”.", name=name)
