"""The buttons under a reply, and the menu of models to replay it on.

They work after a restart: their ids contain all that is needed. A button's action is the name of
the method of the Feedback cog that it calls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import discord

from bot.discord_ui.client import dispatch_to_cog
from bot.discord_ui.delivery.reply import ReplyViews
from i18n.phrase import phrase
from i18n.reader import say
from model.registry import ModelOption

BUTTON_EMOJI = {"again": "🔁", "up": "👍", "down": "👎", "better": "✏️", "stop": "⏹️"}
BUTTON_LABELS = {"better": phrase("Better answer…")}
STOP_BUTTON_ID = re.compile(r"reply:stop:(?P<asked>\d+)")
REPLY_BUTTON_ID = re.compile(r"reply:(?P<action>again|up|down|better):(?P<place>q?[\d-]*)")
MAX_SELECT_OPTIONS = 25
"""Options that Discord accepts in a select menu."""
MAX_PRECEDING_IDS = 4
"""Message ids that fit into a button's id, which may have 100 characters."""


@dataclass(frozen=True, slots=True)
class ReplyLocation:
    """The messages of a reply before the one with the buttons, and whether the reply begins with
    the quoted question."""

    preceding_ids: tuple[int, ...] = ()
    quoted: bool = False

    def reply_id(self, message_id: int) -> int:
        """The id of the reply (its first message), given that of the message with the buttons."""
        return self.preceding_ids[0] if self.preceding_ids else message_id

    def __str__(self) -> str:
        ids = "-".join(map(str, self.preceding_ids[:MAX_PRECEDING_IDS]))
        return f"q{ids}" if self.quoted else ids

    @classmethod
    def parse(cls, text: str) -> ReplyLocation:
        """The inverse of `str`."""
        return cls(tuple(map(int, filter(None, text.lstrip("q").split("-")))), text[:1] == "q")


class ReplyButton(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]],
    template=REPLY_BUTTON_ID,
):
    """A button under a finished reply."""

    def __init__(self, action: str, place: ReplyLocation) -> None:
        self.action = action
        self.location = place
        super().__init__(_button(action, str(place)))

    @classmethod
    async def from_custom_id(cls, _interaction, _item, match):  # type: ignore[no-untyped-def]
        return cls(match["action"], ReplyLocation.parse(match["place"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        await dispatch_to_cog(interaction, "Feedback", self.action, self.location)


class StopButton(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]],
    template=STOP_BUTTON_ID,
):
    """The button under a streaming reply; its id contains that of the answered message."""

    def __init__(self, asked_id: int) -> None:
        self.asked_id = asked_id
        super().__init__(_button("stop", str(asked_id)))

    @classmethod
    async def from_custom_id(cls, _interaction, _item, match):  # type: ignore[no-untyped-def]
        return cls(int(match["asked"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        await dispatch_to_cog(interaction, "Feedback", "stop", self.asked_id)


def _button(action: str, rest: str) -> discord.ui.Button[discord.ui.View]:
    return discord.ui.Button(
        emoji=BUTTON_EMOJI[action],
        label=say(BUTTON_LABELS[action]) if action in BUTTON_LABELS else None,
        style=discord.ButtonStyle.secondary,
        custom_id=f"reply:{action}:{rest}",
    )


class ReplaySelect(
    discord.ui.DynamicItem[discord.ui.Select[discord.ui.View]],
    template=r"reply:replay:(?P<reply>\d+)",
):
    """A menu of the models on which a reply can be replayed."""

    def __init__(self, reply_id: int, choices: Sequence[ModelOption] = ()) -> None:
        self.reply_id = reply_id
        super().__init__(
            discord.ui.Select(
                custom_id=f"reply:replay:{reply_id}",
                placeholder=say("Replay it on another model…"),
                options=[
                    discord.SelectOption(label=one.name[:100], description=say(one.quality)[:100])
                    for one in choices[:MAX_SELECT_OPTIONS]
                ],
            )
        )

    @classmethod
    async def from_custom_id(cls, _interaction, _item, match):  # type: ignore[no-untyped-def]
        return cls(int(match["reply"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        await dispatch_to_cog(interaction, "Feedback", "replay", self.reply_id, self.item.values[0])


def replay_view(reply_id: int, choices: Sequence[ModelOption]) -> discord.ui.View:
    """The menu under the answer to "Why this reply?"."""
    return discord.ui.View(timeout=None).add_item(ReplaySelect(reply_id, choices))


def reply_views(asked_id: int, *, quoted: bool = False) -> ReplyViews:
    """The buttons of a reply to that message; `quoted`: it begins with the quoted question."""
    return ReplyViews(partial(_streaming_view, asked_id), partial(finished_view, quoted))


def _streaming_view(asked_id: int, _before: Sequence[int]) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    return view.add_item(StopButton(asked_id))


def finished_view(quoted: bool, before: Sequence[int]) -> discord.ui.View:
    """The buttons of a finished reply; `before` are its messages above the one with the buttons."""
    view = discord.ui.View(timeout=None)
    for action in ("again", "up", "down", "better"):
        view.add_item(ReplyButton(action, ReplyLocation(tuple(before), quoted)))
    return view


def locate_reply(message: discord.Message) -> ReplyLocation:
    """The location of the reply that a message belongs to, from the ids of its buttons."""
    match = _find_button(message, REPLY_BUTTON_ID)
    return ReplyLocation.parse(match["place"]) if match else ReplyLocation()


def stops_reply_to(message: discord.Message) -> int | None:
    """The message that a reply still being written answers; None if it is no such reply."""
    match = _find_button(message, STOP_BUTTON_ID)
    return int(match["asked"]) if match else None


def _find_button(message: discord.Message, pattern: re.Pattern[str]) -> re.Match[str] | None:
    items = (item for row in message.components for item in getattr(row, "children", ()))
    ids = (getattr(item, "custom_id", None) or "" for item in items)
    return next(filter(None, map(pattern.fullmatch, ids)), None)
