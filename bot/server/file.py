"""A server's settings as a small JSON file, and what would change if one was read back.

Knows the names of roles, channels and models as values. Does not know Discord. Roles and channels
are named by id and name: the id finds them in the same server, the name in another one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bot.server.rules import Bounds, with_value
from bot.server.time_zones import require_zone
from core.errors import Refusal
from core.server_settings import CHOICES, FIELDS, Retrainers, ServerSettings, Value
from core.texts import one_line
from i18n.phrase import join_phrases, message_of, phrase

MAX_BYTES = 100_000
"""Of a file: that of a server with a thousand channels is smaller."""
MAX_PROBLEMS = 10
"""Problems of a file that are told."""
MAX_QUOTED_CHARS = 60
MODEL, CHANNELS, ROLE = "model", "answer_everything_in", "role"

NOT_JSON = phrase(
    "This file is not what `/settings export` writes (JSON): nothing was changed. Export the "
    "settings, change that file, and import it."
)
TOO_LARGE = phrase("This file is too large for one of settings: nothing was changed.")


@dataclass(frozen=True, slots=True)
class Places:
    """What there is in a server: names of roles and channels by id, and of models."""

    roles: Mapping[int, str]
    channels: Mapping[int, str]
    models: frozenset[str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the file holds: what counts in a server. `channels` are those where the bot answers
    everything, as far as they are among the places."""

    settings: ServerSettings
    model: str
    channels: frozenset[int]


def write_file(now: Snapshot, places: Places) -> bytes:
    """The file of a snapshot."""
    content: dict[str, Any] = {MODEL: now.model}
    for name in FIELDS:
        content[name] = _written(name, getattr(now.settings, name), places)
    content[CHANNELS] = [_named(one, places.channels) for one in sorted(now.channels)]
    return f"{json.dumps(content, ensure_ascii=False, indent=2)}\n".encode()


def _written(name: str, value: Value, places: Places) -> object:
    if name != "retrainers" or isinstance(value, str):
        return value
    # Where the role is gone, only administrators retrain.
    known = value in places.roles
    return {ROLE: _named(value, places.roles)} if known else Retrainers.ADMINISTRATORS.value


def _named(one: int, names: Mapping[int, str]) -> dict[str, str]:
    return {"id": str(one), "name": names[one]}  # as text: JSON's numbers are not that exact


class _Wrong(Exception):
    """What is wrong with one value; the message is a Phrase."""


def read_file(data: bytes, now: Snapshot, places: Places, bounds: Bounds) -> Snapshot:
    """What a file asks for; what it does not mention stays.

    Raises:
        Refusal: something of it is unknown or wrong; the message has a line for each.
    """
    wanted, problems = now, []
    for name, value in _parse(data):
        try:
            wanted = _with_entry(wanted, name, value, places, bounds)
        except _Wrong as e:
            problems.append(e.args[0])
    if problems:
        shown = problems[:MAX_PROBLEMS]
        if more := len(problems) - len(shown):
            shown.append(phrase("And {count} more.", count=more))
        raise Refusal(join_phrases([phrase("Nothing was changed."), *shown], "\n"))
    return wanted


def _parse(data: bytes) -> list[tuple[str, Any]]:
    """The entries of the file, of which each may be there once.

    Raises:
        Refusal: it is not JSON, or not an object.
    """
    if len(data) > MAX_BYTES:
        raise Refusal(TOO_LARGE)
    try:
        content = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as e:
        raise Refusal(NOT_JSON) from e
    if not isinstance(content, dict):
        raise Refusal(NOT_JSON)
    return list(content.items())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refusal(
            phrase("“{name}” is in the file twice: nothing was changed.", name=_quoted(twice))
        )
    return content


def _with_entry(
    wanted: Snapshot, name: str, value: Any, places: Places, bounds: Bounds
) -> Snapshot:
    if name == MODEL:
        return replace(wanted, model=_model(value, wanted, places))
    if name == CHANNELS:
        return replace(wanted, channels=_channels(value, places))
    if name not in FIELDS:
        raise _Wrong(
            phrase(
                "“{name}” is not a setting: they are {names}.",
                name=_quoted(name),
                names=join_phrases([MODEL, *FIELDS, CHANNELS], ", "),
            )
        )
    chosen = _choice(name, value, places, bounds)
    return replace(wanted, settings=with_value(wanted.settings, name, chosen))


def _choice(name: str, value: Any, places: Places, bounds: Bounds) -> Value:
    if name == "retrainers" and isinstance(value, dict) and value.keys() == {ROLE}:
        return _find(value[ROLE], places.roles, _no_role)
    if name == "time_zone":
        return _time_zone(value)
    same = [one for one in CHOICES[name] if one == value and type(value) is type(one.value)]
    if not same:  # True is no 1
        raise _Wrong(
            phrase(
                "“{name}” is {value}, but it must be one of {names}.",
                name=name,
                value=_quoted(value),
                names=join_phrases([str(one) for one in CHOICES[name]], ", "),
            )
        )
    if same[0] not in bounds.allowed(name):
        raise _Wrong(
            phrase(
                "“{name}” is “{value}”, which the operator’s settings do not allow: it may be "
                "{names}.",
                name=name,
                value=value,
                names=join_phrases([str(one) for one in bounds.allowed(name)], ", "),
            )
        )
    return same[0]


def _time_zone(value: Any) -> str:
    try:
        return require_zone(value if isinstance(value, str) else _quoted(value))
    except Refusal as e:
        raise _Wrong(message_of(e)) from e


def _model(value: Any, now: Snapshot, places: Places) -> str:
    if isinstance(value, str) and (value in places.models or value == now.model):
        return value
    raise _Wrong(
        phrase("There is no model {value} here; `/model list` shows them.", value=_quoted(value))
    )


def _channels(value: Any, places: Places) -> frozenset[int]:
    if not isinstance(value, list):
        raise _Wrong(phrase("“{name}” must be a list of channels.", name=CHANNELS))
    return frozenset(_find(one, places.channels, _no_channel) for one in value)


def _no_role(shown: str) -> str:
    return phrase("There is no role {value} in this server, or more than one.", value=shown)


def _no_channel(shown: str) -> str:
    return phrase("There is no channel {value} in this server, or more than one.", value=shown)


def _find(value: Any, names: Mapping[int, str], missing: Callable[[str], str]) -> int:
    """The role or channel that an entry means: by its id, else by its name if one has it."""
    entry = value if isinstance(value, dict) else {}
    number, name = entry.get("id"), entry.get("name")
    by_id = [one for one in names if str(one) == number]
    same = by_id or [one for one, known in names.items() if known == name]
    if len(same) != 1:
        raise _Wrong(missing(_quoted(name or number or value)))
    return same[0]


def _quoted(value: Any) -> str:
    """A value of a file, as short text."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return one_line(text, MAX_QUOTED_CHARS)


def changed_fields(now: ServerSettings, wanted: ServerSettings) -> Iterable[str]:
    """The names of the fields that differ."""
    return [name for name in FIELDS if getattr(now, name) != getattr(wanted, name)]
