"""Time zones: the one that a server's hours are in, and finding one by what a person typed.

The names are those of the IANA database, from the machine or the package `tzdata`.
"""

from __future__ import annotations

import difflib
import logging
from datetime import UTC, datetime, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from core.errors import Refusal
from core.server_settings import AUTOMATIC_ZONE
from core.texts import one_line
from i18n.catalogue import JAPANESE
from i18n.phrase import join_phrases, phrase

log = logging.getLogger(__name__)

JAPAN = "Asia/Tokyo"
MAX_QUOTED_CHARS = 60
MAX_SUGGESTIONS = 3
MIN_LIKENESS = 0.6
"""Of a name that is suggested, by `difflib`."""


@cache
def _zones() -> dict[str, str]:
    """The names of all zones, by their lower case."""
    return {name.lower(): name for name in sorted(available_timezones())}


def find_zone(typed: str) -> str | None:
    """The zone that somebody means: by its name, or by a city that is in one name only, whatever
    the case, with spaces for the underscores. None if that is not sure."""
    wanted = "_".join(typed.lower().split())
    if (name := _zones().get(wanted)) is not None:
        return name
    found = [name for lower, name in _zones().items() if lower.rpartition("/")[2] == wanted]
    return found[0] if len(found) == 1 else None


def like_zones(typed: str) -> list[str]:
    """Names that look like what was typed, the likest first."""
    wanted = "_".join(typed.lower().split())
    names = {lower.rpartition("/")[2]: name for lower, name in _zones().items()} | _zones()
    found = difflib.get_close_matches(wanted, names, MAX_SUGGESTIONS, MIN_LIKENESS)
    return list(dict.fromkeys(names[one] for one in found))


def require_zone(typed: str) -> str:
    """The name of the zone that somebody means, or AUTOMATIC_ZONE.

    Raises:
        Refusal: there is none, or more than one; the sentence names some like it.
    """
    if typed == AUTOMATIC_ZONE:
        return typed
    if (name := find_zone(typed)) is not None:
        return name
    near = like_zones(typed) or ["Asia/Tokyo", "Europe/Berlin", "America/New_York"]
    raise Refusal(
        phrase(
            "“{zone}” is no time zone that I know, or more than one: write its name, such as "
            "{names}.",
            zone=one_line(typed, MAX_QUOTED_CHARS),
            names=join_phrases(near, ", "),
        )
    )


def zone_of(chosen: str, language: str) -> tzinfo:
    """The zone of a server, given what was chosen and its language: Japan has one zone only. Else
    that of the machine."""
    named = None if chosen == AUTOMATIC_ZONE else _zone(chosen)
    return named or (ZoneInfo(JAPAN) if language == JAPANESE else machine_zone())


@cache
def _zone(name: str) -> ZoneInfo | None:
    """The zone that a server chose; None if this machine knows it no more."""
    if name in available_timezones():
        return ZoneInfo(name)
    log.warning("the time zone %s is not known on this machine", name)
    return None


@cache
def machine_zone() -> tzinfo:
    """The zone of the machine, or of the variable TZ."""
    from babel.localtime import get_localzone  # takes time to import; it knows Windows too

    try:
        zone = get_localzone()
    except (LookupError, OSError, ValueError) as e:
        log.warning("the machine's time zone has no name (%s): its present offset counts", e)
        return datetime.now(UTC).astimezone().tzinfo or UTC
    # where pytz is installed it is one of that, which knows no `fold`
    return zone if isinstance(zone, ZoneInfo) else _zone(str(zone)) or UTC


def zone_name(zone: tzinfo) -> str:
    """Its name for people."""
    return getattr(zone, "key", None) or zone.tzname(datetime.now(UTC)) or "UTC"
