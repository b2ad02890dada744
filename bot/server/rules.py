"""The rules of each server: what its managers chose, as far as the operator's settings let them.

The one seam through which the rest of the bot reads them. Knows the table and the bounds. Does not
know Discord. A scope that is no server (a direct message) has the operator's settings.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from bot.settings import Settings
from core.server_settings import (
    CHOICES,
    ButtonsUnder,
    Liveliness,
    Nightly,
    ReplyLength,
    Retrainers,
    ServerLanguage,
    ServerSettings,
    Switch,
    Teaching,
    Value,
    parse_value,
)
from data.storage.tables.server_settings import ServerSettingsTable
from model.sampling import SamplingParams

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

TEMPERATURES: Mapping[Liveliness, float] = {
    Liveliness.CALM: 0.2,
    Liveliness.NORMAL: 0.7,
    Liveliness.LIVELY: 1.0,
}
LENGTH_SHARES: Mapping[ReplyLength, float] = {
    ReplyLength.SHORT: 1 / 3,
    ReplyLength.NORMAL: 2 / 3,
    ReplyLength.LONG: 1.0,
}
"""Of the operator's MAX_NEW_TOKENS."""
STRICTNESS = list(Teaching)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The operator's settings that no server can exceed; without a choice they are what counts.
    `one_language`: everybody is answered in it."""

    max_new_tokens: int = 60
    temperature: float | None = None
    reply_buttons: bool = True
    review_new_answers: bool = True
    known_at_once: bool = True
    one_language: bool = False

    @classmethod
    def of(cls, settings: Settings, *, one_language: bool = False) -> Self:
        return cls(
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            reply_buttons=settings.reply_buttons,
            review_new_answers=settings.review_new_answers,
            known_at_once=settings.known_at_once,
            one_language=one_language,
        )

    def narrow(self, chosen: ServerSettings) -> ServerSettings:
        """What of a choice counts."""
        loosest = Teaching.REVIEW_RIVALS if self.review_new_answers else Teaching.AT_ONCE
        return replace(
            chosen,
            language=ServerLanguage.AUTOMATIC if self.one_language else chosen.language,
            liveliness=chosen.liveliness if self._is_calm(chosen.liveliness) else Liveliness.MODEL,
            buttons=chosen.buttons if self.reply_buttons else ButtonsUnder.NONE,
            teaching=max(loosest, chosen.teaching, key=STRICTNESS.index),
            known_at_once=chosen.known_at_once if self.known_at_once else Switch.OFF,
        )

    def _is_calm(self, liveliness: Liveliness) -> bool:
        wanted = TEMPERATURES.get(liveliness, 0.0)
        return self.temperature is None or wanted <= self.temperature

    def allowed(self, name: str) -> list[Any]:
        """The values of a field of CHOICES that the operator leaves open."""
        return [
            one
            for one in CHOICES[name]
            if getattr(self.narrow(with_value(ServerSettings(), name, one)), name) is one
        ]

    def is_closed(self, name: str) -> bool:
        """Whether the operator leaves out some of its values."""
        return name in CHOICES and len(self.allowed(name)) < len(CHOICES[name])

    def tokens(self, length: ReplyLength) -> int:
        """The longest reply of a length."""
        return max(1, round(self.max_new_tokens * LENGTH_SHARES[length]))


def with_value(settings: ServerSettings, name: str, value: Value) -> ServerSettings:
    """The settings with another value in one field."""
    return replace(settings, **{name: value})  # type: ignore[arg-type]


class ServerRules:
    """The rules of all servers. Kept in memory, because every message asks for them."""

    def __init__(self, table: ServerSettingsTable, bounds: Bounds) -> None:
        self._table = table
        self.bounds = bounds
        self._chosen: dict[int, ServerSettings] = {}
        self._usual = bounds.narrow(ServerSettings())

    async def load(self) -> None:
        """Read what was chosen before the bot was started."""
        for guild_id, name, text in await self._table.all():
            value = parse_value(name, text)
            if value is None:
                log.warning("a setting of the server %d is not known: %s %s", guild_id, name, text)
            else:
                self._remember(guild_id, name, value)

    def of(self, scope: int) -> ServerSettings:
        """What counts there."""
        chosen = self._chosen.get(scope)
        return self._usual if chosen is None else self.bounds.narrow(chosen)

    async def choose(self, guild_id: int, name: str, value: Value) -> None:
        """Set one field of a server; it counts from the next message on.

        Raises:
            StoreError: nothing changes.
        """
        await self._table.set(guild_id, name, str(value))
        self._remember(guild_id, name, value)

    def _remember(self, guild_id: int, name: str, value: Value) -> None:
        before = self._chosen.get(guild_id, ServerSettings())
        self._chosen[guild_id] = with_value(before, name, value)

    async def forget(self, guild_id: int) -> None:
        """Forget a server."""
        await self._table.remove(guild_id)
        self._chosen.pop(guild_id, None)

    # --- what the parts of the bot ask for -------------------------------------------------------

    def language(self, guild_id: int) -> str | None:
        """The language that was chosen there, if one was."""
        chosen = self.of(guild_id).language
        return None if chosen is ServerLanguage.AUTOMATIC else chosen.value

    def retrainers(self, guild_id: int) -> Retrainers | int:
        """Who may retrain there: a rank, or the id of a role."""
        return self.of(guild_id).retrainers

    def at_night(self) -> list[int]:
        """The servers in which the bot is to retrain by itself."""
        return [one for one, chosen in self._chosen.items() if chosen.nightly is not Nightly.OFF]

    def shows_buttons(self, scope: int) -> bool:
        return self.of(scope).buttons is not ButtonsUnder.NONE

    def tries_first(self, scope: int) -> bool:
        """Whether new checkpoints are on trial there first."""
        return self.of(scope).canary is Switch.ON

    def shape(self, scope: int, params: SamplingParams) -> SamplingParams:
        """The sampling of a reply there, given what it would be without any choice."""
        chosen = self.of(scope)
        tokens = self.bounds.tokens(chosen.length)
        temperature = TEMPERATURES.get(chosen.liveliness, params.temperature)
        if (tokens, temperature) == (params.max_new_tokens, params.temperature):
            return params
        return replace(params, max_new_tokens=tokens, temperature=temperature)

    def where_known_at_once(
        self,
        ask: Callable[Concatenate[int, P], Awaitable[T]],
        otherwise: Callable[Concatenate[int, P], Awaitable[T]],
    ) -> Callable[Concatenate[int, P], Awaitable[T]]:
        """`ask` in scopes that are given taught answers at once, `otherwise` in all others."""

        async def ask_there(scope: int, /, *args: P.args, **kwargs: P.kwargs) -> T:
            asked = ask if self.of(scope).known_at_once is Switch.ON else otherwise
            return await asked(scope, *args, **kwargs)

        return ask_there
