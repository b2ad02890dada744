"""What the managers of a server chose for it: frozen values, no I/O.

The values are what the table and an exported file hold. Does not know the operator's settings,
which bound them (`bot.server.rules`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ServerLanguage(StrEnum):
    """The language of messages that everybody in the server sees; AUTOMATIC: as Discord says."""

    AUTOMATIC = "automatic"
    ENGLISH = "en"
    JAPANESE = "ja"


class Liveliness(StrEnum):
    """How freely the bot talks; MODEL: at the temperature of the model or of the operator."""

    MODEL = "model"
    CALM = "calm"
    NORMAL = "normal"
    LIVELY = "lively"


class ReplyLength(StrEnum):
    """How much of the operator's MAX_NEW_TOKENS a reply may use."""

    SHORT = "short"
    NORMAL = "normal"
    LONG = "long"


class ButtonsUnder(StrEnum):
    """Which replies have buttons."""

    ALL = "all"
    LAST = "last"
    NONE = "none"


class Teaching(StrEnum):
    """Whose lessons count, and which wait for a review; each is stricter than the one before."""

    AT_ONCE = "unreviewed"
    REVIEW_RIVALS = "review-others"
    REVIEW_ALL = "review-all"
    MANAGERS = "managers"


class Retrainers(StrEnum):
    """Who may retrain. Administrators always may."""

    ADMINISTRATORS = "administrators"
    MANAGERS = "managers"


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The settings of a server. The defaults are the widest ones: the operator's settings narrow
    them. `retrainers` may be the id of a role.
    """

    language: ServerLanguage = ServerLanguage.AUTOMATIC
    liveliness: Liveliness = Liveliness.MODEL
    length: ReplyLength = ReplyLength.LONG
    buttons: ButtonsUnder = ButtonsUnder.ALL
    teaching: Teaching = Teaching.AT_ONCE
    known_at_once: Switch = Switch.ON
    retrainers: Retrainers | int = Retrainers.ADMINISTRATORS


Value = StrEnum | int
"""Of a field; a number is the id of a role."""
CHOICES: Mapping[str, type[StrEnum]] = {
    "language": ServerLanguage,
    "liveliness": Liveliness,
    "length": ReplyLength,
    "buttons": ButtonsUnder,
    "teaching": Teaching,
    "known_at_once": Switch,
    "retrainers": Retrainers,
}
"""The fields, and what each may be (the retrainers also a role)."""


def parse_value(name: str, text: str) -> Value | None:
    """The value of a field as the table holds it; None if this version of the bot knows no such
    field or value."""
    if name == "retrainers" and text.isascii() and text.isdigit():
        return int(text)
    kind = CHOICES.get(name)
    return kind(text) if kind is not None and text in list(kind) else None
