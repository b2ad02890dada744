"""The panel of /settings: a menu for each field, on three pages.

Knows how the fields are laid out. What a choice does is the cog's (`PanelActions`); the words are
`bot.discord_ui.embeds.settings`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

import discord

from bot.discord_ui.client import BotInteraction, ReportsFailure
from bot.discord_ui.delivery.requests import DISCORD_ERRORS, defer
from bot.discord_ui.embeds.settings import (
    PanelState,
    channels_text,
    field_text,
    model_text,
    option_label,
    panel_heading,
)
from bot.discord_ui.embeds.style import BLURPLE, layout
from bot.discord_ui.permissions import NOT_YOURS, Rank, require_rank
from bot.discord_ui.views.confirm import VIEW_TIMEOUT_S
from bot.discord_ui.views.time_zone import ZoneButton
from core.errors import Refusal
from core.server_settings import FOR_ADMINISTRATORS, Value, parse_value
from i18n.phrase import phrase
from i18n.reader import say

MAX_OPTIONS = 25
"""That Discord shows in a menu."""
MAX_LABEL_CHARS = 100
CHANNEL_TYPES = [
    discord.ChannelType.text,
    discord.ChannelType.news,
    discord.ChannelType.voice,
    discord.ChannelType.stage_voice,
    discord.ChannelType.forum,
    discord.ChannelType.public_thread,
    discord.ChannelType.private_thread,
    discord.ChannelType.news_thread,
]
PANEL_CLOSED = phrase("This panel is closed. `/settings open` opens it again.")


class Page(StrEnum):
    """The pages of the panel."""

    TALK = "talk"
    LEARNING = "learning"
    SCHEDULE = "schedule"


PAGE_LABELS = {
    Page.TALK: phrase("How I talk"),
    Page.LEARNING: phrase("How I learn"),
    Page.SCHEDULE: phrase("When I retrain"),
}
PAGE_FIELDS = {
    Page.TALK: ("language", "liveliness", "length", "buttons"),
    Page.LEARNING: ("teaching", "known_at_once", "canary", "retrainers"),
    Page.SCHEDULE: ("nightly", "new_lessons"),
}


@dataclass(frozen=True, slots=True)
class PanelActions:
    """What the cog does for the panel. `switch_channels` enables the first ones and disables the
    second."""

    read: Callable[[BotInteraction], Awaitable[PanelState]]
    choose: Callable[[BotInteraction, str, Value], Awaitable[None]]
    use_model: Callable[[BotInteraction, str], Awaitable[None]]
    switch_channels: Callable[[BotInteraction, Iterable[int], Iterable[int]], Awaitable[None]]
    forget_channels: Callable[[BotInteraction], Awaitable[None]]


class SettingsPanel(ReportsFailure, discord.ui.LayoutView):
    """The panel. Only who opened it may use it, and only while they are a manager."""

    def __init__(self, owner_id: int, actions: PanelActions) -> None:
        super().__init__(timeout=VIEW_TIMEOUT_S)
        self._owner_id = owner_id
        self._actions = actions
        self._page = Page.TALK
        self._shown: BotInteraction | None = None
        self._drawing = asyncio.Lock()

    async def show(self, asking: BotInteraction, *, loading: str | None = None) -> None:
        """Show in the deferred answer how things are now, whoever changed them; and which model
        is `loading`."""
        async with self._drawing:  # of two presses, the later one shows what both have done
            self._fill(replace(await self._actions.read(asking), loading=loading))
            await asking.edit_original_response(view=self)
            self._shown = asking

    def _fill(self, state: PanelState) -> None:
        self.clear_items()
        box: discord.ui.Container[SettingsPanel] = discord.ui.Container(accent_colour=BLURPLE)
        box.add_item(discord.ui.TextDisplay(panel_heading(state)))
        for item in self._items(state):
            box.add_item(item)
        pages = [PageButton(self, one, one is self._page) for one in Page]
        box.add_item(discord.ui.ActionRow(*pages))
        self.add_item(box)

    def _items(self, state: PanelState) -> Iterable[discord.ui.Item[SettingsPanel]]:
        if self._page is Page.TALK:
            yield from (discord.ui.TextDisplay(model_text(state)), _row(ModelMenu(self, state)))
        for name in PAGE_FIELDS[self._page]:
            yield from (
                discord.ui.TextDisplay(field_text(name, state)),
                _row(Menu(self, name, state)),
            )
        match self._page:
            case Page.TALK:
                yield from self._channel_items(state)
            case Page.LEARNING:
                yield _row(RoleMenu(self, state))
            case Page.SCHEDULE:
                yield discord.ui.TextDisplay(field_text("time_zone", state))
                now, locked = state.now.settings.time_zone, not state.is_administrator
                yield _row(ZoneButton(now, self.choose_zone, locked=locked))

    def _channel_items(self, state: PanelState) -> Iterable[discord.ui.Item[SettingsPanel]]:
        menu = ChannelMenu(self, state)
        yield discord.ui.TextDisplay(channels_text(state, len(menu.shown)))
        yield _row(menu)
        if state.gone:
            yield _row(ForgetButton(self))

    async def interaction_check(self, interaction: BotInteraction, /) -> bool:  # type: ignore[override]
        if interaction.user.id != self._owner_id:
            raise Refusal(NOT_YOURS)
        require_rank(interaction, Rank.MANAGER)
        return await super().interaction_check(interaction)

    async def turn_to(self, press: BotInteraction, page: Page) -> None:
        """Show a page."""
        await defer(press)
        self._page = page
        await self.show(press)

    async def choose(self, press: BotInteraction, name: str, value: Value) -> None:
        """A value of a field was chosen."""
        await self._act(press, partial(self._actions.choose, press, name, value))

    async def choose_zone(self, form: BotInteraction, typed: str) -> None:
        """A time zone was typed."""
        await self.choose(form, "time_zone", typed)

    async def use_model(self, press: BotInteraction, name: str) -> None:
        """A model was chosen, which may have to be downloaded."""

        async def load_and_use() -> None:
            await self.show(press, loading=name)
            await self._actions.use_model(press, name)

        await self._act(press, load_and_use)

    async def switch_channels(
        self, press: BotInteraction, on: Iterable[int], off: Iterable[int]
    ) -> None:
        """Channels were added, or taken out."""
        await self._act(press, partial(self._actions.switch_channels, press, on, off))

    async def forget_channels(self, press: BotInteraction) -> None:
        """The channels that cannot be seen are to be forgotten."""
        await self._act(press, partial(self._actions.forget_channels, press))

    async def _act(self, press: BotInteraction, action: Callable[[], Awaitable[None]]) -> None:
        await defer(press)
        try:
            await action()
        finally:  # if it failed, the menu shows again what counts
            await self.show(press)

    async def on_timeout(self) -> None:
        if self._shown is None:
            return
        with suppress(*DISCORD_ERRORS):  # whoever dismissed the panel needs no closing words
            await self._shown.edit_original_response(view=layout(say(PANEL_CLOSED)))


def _default(of: int, kind: discord.SelectDefaultValueType) -> discord.SelectDefaultValue:
    return discord.SelectDefaultValue(id=of, type=kind)


def _row(item: discord.ui.Item[Any]) -> discord.ui.ActionRow[SettingsPanel]:
    return discord.ui.ActionRow(item)


class PageButton(discord.ui.Button[SettingsPanel]):
    """Turns to a page."""

    def __init__(self, panel: SettingsPanel, page: Page, is_shown: bool) -> None:
        super().__init__(
            label=say(PAGE_LABELS[page]), custom_id=f"settings:page:{page}", disabled=is_shown
        )
        self._panel = panel
        self._to = page

    async def callback(self, interaction: BotInteraction) -> None:  # type: ignore[override]
        await self._panel.turn_to(interaction, self._to)


class ForgetButton(discord.ui.Button[SettingsPanel]):
    """Forgets the enabled channels that cannot be seen."""

    def __init__(self, panel: SettingsPanel) -> None:
        super().__init__(label=say("Forget those I cannot see"), custom_id="settings:forget")
        self._panel = panel

    async def callback(self, interaction: BotInteraction) -> None:  # type: ignore[override]
        await self._panel.forget_channels(interaction)


class Menu(discord.ui.Select[SettingsPanel]):
    """The values of a field that the operator leaves open."""

    def __init__(self, panel: SettingsPanel, name: str, state: PanelState) -> None:
        now = getattr(state.now.settings, name)
        allowed = state.bounds.allowed(name)
        options = [
            discord.SelectOption(
                label=say(option_label(name, one, state.bounds))[:MAX_LABEL_CHARS],
                value=str(one),
                default=one is now,
            )
            for one in allowed
        ]
        may_choose = name not in FOR_ADMINISTRATORS or state.is_administrator
        is_role = name == "retrainers" and now not in allowed
        super().__init__(
            custom_id=f"settings:{name}",
            options=options,
            disabled=len(allowed) < 2 or not may_choose,
            placeholder=say("A role, chosen below") if is_role else None,
        )
        self._panel = panel
        self._name = name

    async def callback(self, interaction: BotInteraction) -> None:  # type: ignore[override]
        value = parse_value(self._name, self.values[0])
        assert value is not None  # it is one of the options
        await self._panel.choose(interaction, self._name, value)


class RoleMenu(discord.ui.RoleSelect[SettingsPanel]):
    """The role whose members may retrain."""

    def __init__(self, panel: SettingsPanel, state: PanelState) -> None:
        now = state.now.settings.retrainers
        role = discord.SelectDefaultValueType.role
        shown = [_default(now, role)] if isinstance(now, int) and now in state.places.roles else []
        super().__init__(
            custom_id="settings:role",
            placeholder=say("Or the members of a role…"),
            default_values=shown,
            disabled=not state.is_administrator,
        )
        self._panel = panel

    async def callback(self, interaction: BotInteraction) -> None:  # type: ignore[override]
        await self._panel.choose(interaction, "retrainers", self.values[0].id)


class ModelMenu(discord.ui.Select[SettingsPanel]):
    """The newest models of the server."""

    def __init__(self, panel: SettingsPanel, state: PanelState) -> None:
        now = state.now.model
        others = [one for one in state.models if one != now and len(one) <= MAX_LABEL_CHARS]
        super().__init__(
            custom_id="settings:model",
            options=[
                discord.SelectOption(label=one, value=one, default=one == now)
                for one in (now[:MAX_LABEL_CHARS], *others[1 - MAX_OPTIONS :])
            ],
        )
        self._panel = panel

    async def callback(self, interaction: BotInteraction) -> None:  # type: ignore[override]
        await self._panel.use_model(interaction, self.values[0])


class ChannelMenu(discord.ui.ChannelSelect[SettingsPanel]):
    """The channels where everything is answered; what is not `shown` in it stays as it is."""

    def __init__(self, panel: SettingsPanel, state: PanelState) -> None:
        self.shown = frozenset(sorted(state.now.channels)[:MAX_OPTIONS])
        channel = discord.SelectDefaultValueType.channel
        super().__init__(
            custom_id="settings:channels",
            channel_types=CHANNEL_TYPES,
            placeholder=say("Nowhere"),
            min_values=0,
            max_values=MAX_OPTIONS,
            default_values=[_default(one, channel) for one in sorted(self.shown)],
        )
        self._panel = panel

    async def callback(self, interaction: BotInteraction) -> None:  # type: ignore[override]
        wanted = {one.id for one in self.values}
        await self._panel.switch_channels(interaction, wanted - self.shown, self.shown - wanted)
