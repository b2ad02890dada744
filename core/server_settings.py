"""What the managers of a server chose for it: frozen values, no I/O.

The values are what the table and an exported file hold. Does not know the operator's settings,
which bound them (`bot.server.rules`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import IntEnum, StrEnum


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


class Nightly(StrEnum):
    """When the bot retrains by itself: never, or every night at an hour of the server's clock."""

    OFF = "off"
    AT_00 = "00:00"
    AT_01 = "01:00"
    AT_02 = "02:00"
    AT_03 = "03:00"
    AT_04 = "04:00"
    AT_05 = "05:00"
    AT_06 = "06:00"
    AT_07 = "07:00"
    AT_08 = "08:00"
    AT_09 = "09:00"
    AT_10 = "10:00"
    AT_11 = "11:00"
    AT_12 = "12:00"
    AT_13 = "13:00"
    AT_14 = "14:00"
    AT_15 = "15:00"
    AT_16 = "16:00"
    AT_17 = "17:00"
    AT_18 = "18:00"
    AT_19 = "19:00"
    AT_20 = "20:00"
    AT_21 = "21:00"
    AT_22 = "22:00"
    AT_23 = "23:00"

    @property
    def hour(self) -> int | None:
        """From 0 to 23; None if it is off."""
        return None if self is Nightly.OFF else int(self.value[:2])


class NewLessons(IntEnum):
    """How many new lessons it takes before the bot retrains by itself."""

    ONE = 1
    FIVE = 5
    TEN = 10
    TWENTY_FIVE = 25
    FIFTY = 50
    HUNDRED = 100


AUTOMATIC_ZONE = "automatic"
"""No time zone was chosen: that of the server's language or of the machine counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The settings of a server. The defaults are the widest ones: the operator's settings narrow
    them. `retrainers` may be the id of a role; `time_zone` is a name of the IANA database, or
    AUTOMATIC_ZONE.
    """

    language: ServerLanguage = ServerLanguage.AUTOMATIC
    liveliness: Liveliness = Liveliness.MODEL
    length: ReplyLength = ReplyLength.LONG
    buttons: ButtonsUnder = ButtonsUnder.ALL
    teaching: Teaching = Teaching.AT_ONCE
    known_at_once: Switch = Switch.ON
    canary: Switch = Switch.OFF
    retrainers: Retrainers | int = Retrainers.ADMINISTRATORS
    nightly: Nightly = Nightly.OFF
    new_lessons: NewLessons = NewLessons.TEN
    time_zone: str = AUTOMATIC_ZONE


Value = str | int
"""Of a field: one of its CHOICES, the id of a role, or the name of a time zone."""
CHOICES: Mapping[str, type[StrEnum | IntEnum]] = {
    "language": ServerLanguage,
    "liveliness": Liveliness,
    "length": ReplyLength,
    "buttons": ButtonsUnder,
    "teaching": Teaching,
    "known_at_once": Switch,
    "canary": Switch,
    "retrainers": Retrainers,
    "nightly": Nightly,
    "new_lessons": NewLessons,
}
"""What the fields may be (the retrainers also a role), but for the time zone."""
FIELDS = tuple(field.name for field in fields(ServerSettings))
SCHEDULE = ("nightly", "new_lessons", "time_zone")
"""The fields that say when the bot retrains by itself."""
FOR_ADMINISTRATORS = frozenset({"retrainers", *SCHEDULE})
"""The fields that only an administrator may choose."""


def parse_value(name: str, text: str) -> Value | None:
    """The value of a field as the table holds it; None if this version of the bot knows no such
    field or value."""
    if name == "time_zone":
        return text
    if name == "retrainers" and text.isascii() and text.isdigit():
        return int(text)
    return next((one for one in CHOICES.get(name, ()) if str(one) == text), None)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Who chose last when the bot retrains by itself, and in which channel, which is told.

    Nights count that begin after `since`. `last_night` began when the newest one did that was
    decided about; `skipped` says why nothing was trained then, if nothing was.
    """

    scope: int
    chosen_by: int
    channel_id: int
    since: datetime
    last_night: datetime | None = None
    skipped: str | None = None
