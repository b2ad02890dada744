"""The text of /help: by what people want, as far as somebody of a rank may do it there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from discord import app_commands

from bot.discord_ui.permissions import Command, Rank, needed_rank, root_of
from bot.discord_ui.translator import command_name, shown_name
from i18n.phrase import Phrase, phrase
from i18n.reader import current_language, say


@dataclass(frozen=True, slots=True)
class Hint:
    """A line of help: what the commands do; without any, what else people can do. `buttons`: it
    is about those under a reply."""

    text: Phrase
    commands: tuple[str, ...] = ()
    buttons: bool = False


TOPICS: tuple[tuple[Phrase, tuple[Hint, ...]], ...] = (
    (
        phrase("Talk to me"),
        (
            Hint(phrase("Mention me, reply to me, or write me a direct message")),
            Hint(phrase("say something without a mention"), ("chat",)),
            Hint(phrase("I forget what was said in this channel"), ("reset",)),
        ),
    ),
    (
        phrase("Teach me"),
        (
            Hint(phrase("what people say, and what I should answer"), ("teach",)),
            Hint(
                phrase("check, import, see how I grow"),
                ("dataset review", "dataset import", "growth"),
            ),
        ),
    ),
    (
        phrase("Correct a reply"),
        (
            Hint(phrase("Under it: 👍 👎 rate it, ✏️ corrects it, 🔁 asks again"), buttons=True),
            Hint(phrase("Hold or right-click a reply, *Apps*: *{better}*, *{why}*")),
        ),
    ),
    (
        phrase("Models"),
        (
            Hint(phrase("who I am, and which model answers"), ("about",)),
            Hint(phrase("which models there are"), ("model list", "model info")),
            Hint(
                phrase("choose one, go back, compare"),
                ("model use", "model rollback", "duel start"),
            ),
        ),
    ),
    (
        phrase("Retrain me"),
        (Hint(phrase("I learn what was taught here; you see a plan first"), ("retrain",)),),
    ),
    (
        phrase("Privacy"),
        (
            Hint(phrase("what I keep about you"), ("privacy show",)),
            Hint(phrase("download it, or erase it"), ("privacy export", "privacy forget")),
            Hint(phrase("whether I may learn from talk"), ("privacy opt-in", "privacy opt-out")),
        ),
    ),
    (
        phrase("Keep order"),
        (
            Hint(
                phrase("where I answer every message"),
                ("channel enable", "channel disable"),
            ),
            Hint(phrase("what I must not say, and what I must"), ("filter add", "golden add")),
            Hint(phrase("silence me, let me speak again"), ("pause", "resume")),
            Hint(phrase("how I behave here; what managers did"), ("settings open", "audit")),
        ),
    ),
)


def help_text(
    tree: app_commands.CommandTree[Any],
    rank: Rank,
    *,
    in_server: bool,
    buttons: bool,
    granted: Iterable[str] = (),
    refused: Iterable[str] = (),
) -> str:
    """The help for somebody of that rank in the reader's language; `buttons`: replies have some.
    What the server itself has `granted` or `refused` them goes before the rank."""
    usable = {
        one.qualified_name
        for one in tree.walk_commands()
        if isinstance(one, app_commands.Command) and _is_usable(one, rank, in_server=in_server)
    }
    return "\n".join(_lines((usable | {*granted}) - {*refused}, buttons=buttons))


def _is_usable(command: Command, rank: Rank, *, in_server: bool) -> bool:
    return needed_rank(command) <= rank and (in_server or not root_of(command).guild_only)


def _lines(usable: set[str], *, buttons: bool) -> Iterator[str]:
    for topic, hints in TOPICS:
        shown = [one for one in hints if usable.issuperset(one.commands)]
        shown = [one for one in shown if buttons or not one.buttons]
        if shown:
            yield f"**{say(topic)}**"
            yield from map(_line, shown)


def _line(hint: Hint) -> str:
    if hint.commands:
        return say("{commands}: {what}", commands=_typed(hint.commands), what=hint.text)
    better, why = menu_entry("Better answer"), menu_entry("Why this reply?")
    return say(hint.text.template, better=better, why=why)


def _typed(commands: Iterable[str]) -> str:
    language = current_language()
    return say(", ").join(f"`/{command_name(one, language)}`" for one in commands)


def menu_entry(name: str) -> str:
    """An entry in the menu of a message, as Discord shows it."""
    return shown_name("command", name, current_language())
