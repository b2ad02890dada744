"""Autocomplete: which names fit what somebody has typed so far."""

from __future__ import annotations

from collections.abc import Iterable

from discord import app_commands

MAX_CHOICES = 25
"""Choices that Discord shows."""


def autocomplete_choices(names: Iterable[str], current: str) -> list[app_commands.Choice[str]]:
    """The names that contain `current`, an exact match first."""
    typed = current.casefold()
    found = [name for name in names if typed in name.casefold()]
    found.sort(key=lambda name: name.casefold() != typed)
    return [app_commands.Choice(name=name, value=name) for name in found[:MAX_CHOICES]]
