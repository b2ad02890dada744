"""The words of /settings: what each field is called, what it may be, and what would change.

Values only; the menus are `bot.discord_ui.views.settings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bot.discord_ui.embeds.schedule import schedule_notes, zone_note
from bot.discord_ui.embeds.style import quote_safely
from bot.learning.schedule import Outlook
from bot.server.file import Places, Snapshot, changed_fields
from bot.server.rules import Bounds
from core.server_settings import (
    AUTOMATIC_ZONE,
    SCHEDULE,
    ButtonsUnder,
    Liveliness,
    NewLessons,
    Nightly,
    ReplyLength,
    Retrainers,
    ServerLanguage,
    Switch,
    Teaching,
    Value,
)
from i18n.phrase import Phrase, join_phrases, phrase, phrases
from i18n.reader import say

TITLES: Mapping[str, Phrase] = {
    "language": phrase("Language"),
    "liveliness": phrase("How freely I talk"),
    "length": phrase("Length of a reply"),
    "buttons": phrase("Buttons under replies"),
    "teaching": phrase("Who teaches me"),
    "known_at_once": phrase("What was taught"),
    "canary": phrase("A newly trained model"),
    "retrainers": phrase("Who may retrain me"),
    "nightly": phrase("When I retrain by myself"),
    "new_lessons": phrase("If there are at least"),
    "time_zone": phrase("Time zone"),
}
MODEL_TITLE = phrase("Model")
CHANNELS_TITLE = phrase("Where I answer everything")
LABELS: Mapping[str, Mapping[Value, Phrase]] = {
    "language": {
        ServerLanguage.AUTOMATIC: phrase("As the server is set in Discord"),
        ServerLanguage.ENGLISH: phrase("English"),
        ServerLanguage.JAPANESE: phrase("Japanese"),
    },
    "liveliness": {
        Liveliness.MODEL: phrase("As the model is set"),
        Liveliness.CALM: phrase("Calm: the likeliest words"),
        Liveliness.NORMAL: phrase("Normal"),
        Liveliness.LIVELY: phrase("Lively: more surprises, more nonsense"),
    },
    "length": {
        ReplyLength.SHORT: phrase("Short"),
        ReplyLength.NORMAL: phrase("Normal"),
        ReplyLength.LONG: phrase("Long"),
    },
    "buttons": {
        ButtonsUnder.ALL: phrase("Under every reply"),
        ButtonsUnder.LAST: phrase("Under the last reply only"),
        ButtonsUnder.NONE: phrase("None"),
    },
    "teaching": {
        Teaching.AT_ONCE: phrase("Everybody, without a review"),
        Teaching.REVIEW_RIVALS: phrase("Everybody; new answers to others’ questions are reviewed"),
        Teaching.REVIEW_ALL: phrase("Everybody; all of it is reviewed first"),
        Teaching.MANAGERS: phrase("Managers only"),
    },
    "known_at_once": {
        Switch.ON: phrase("I say it at once, before a retrain"),
        Switch.OFF: phrase("I say it once I have learned it"),
    },
    "canary": {
        Switch.ON: phrase("Answers in half of the channels first, on trial"),
        Switch.OFF: phrase("Answers everywhere at once"),
    },
    "retrainers": {
        Retrainers.ADMINISTRATORS: phrase("Administrators only"),
        Retrainers.MANAGERS: phrase("Managers (Manage Server)"),
    },
    "nightly": {
        one: phrase("Never") if one is Nightly.OFF else phrase("Every day at {hour}", hour=one)
        for one in Nightly
    },
    "new_lessons": {
        one: phrases("{count} new lesson", "{count} new lessons", one.value) for one in NewLessons
    },
}
MAX_CHANNELS_NAMED = 20
"""In the preview of an import."""
ROLE_GONE = phrase("a role that is gone, so administrators only")
ONLY_ADMINISTRATORS_CHOOSE = phrase(
    "Only an administrator can choose who may retrain me: nobody can give themselves the right."
)
ONLY_ADMINISTRATORS_SCHEDULE = phrase("Only an administrator can choose when I retrain by myself.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelState:
    """What the panel shows. `gone`: enabled channels that are not among the places; `missing`: the
    chosen model, where that is gone; `loading`: the one that is to answer next."""

    server: str
    now: Snapshot
    places: Places
    bounds: Bounds
    models: tuple[str, ...]
    missing: str | None
    gone: int
    is_administrator: bool
    outlook: Outlook
    loading: str | None = None


def option_label(name: str, value: Value, bounds: Bounds) -> Phrase:
    """What a field may be, in words."""
    label = LABELS[name][value]
    if isinstance(value, ReplyLength):
        return phrase("{label}: at most {most} tokens", label=label, most=bounds.tokens(value))
    if value is Liveliness.MODEL and bounds.temperature is not None:
        return phrase("As the operator has set it")
    return label


def value_label(name: str, value: Value, places: Places, bounds: Bounds) -> str:
    """What a field is, in words."""
    if name == "time_zone":
        return phrase("automatic") if value == AUTOMATIC_ZONE else str(value)
    if value in LABELS[name]:
        return option_label(name, value, bounds)
    role = places.roles.get(int(value))
    return ROLE_GONE if role is None else phrase("the role {role}", role=quote_safely(role, 100))


def closed_note(name: str, bounds: Bounds) -> Phrase | None:
    """What the operator has closed of a field, in one sentence."""
    if name == "length":
        return phrase("The operator allows {most} tokens at most.", most=bounds.max_new_tokens)
    if not bounds.is_closed(name):
        return None
    match name:
        case "language":
            return phrase("The operator has chosen one language for everybody.")
        case "liveliness":
            return phrase(
                "The operator allows a temperature of {most} at most.", most=bounds.temperature
            )
        case "buttons":
            return phrase("The operator has switched the buttons off.")
        case "teaching":
            return phrase("The operator wants new answers to others’ questions to be reviewed.")
        case _:
            return phrase("The operator has left this to a retrain.")


def field_text(name: str, state: PanelState) -> str:
    """What stands above the menu of a field."""
    notes: list[str] = []
    if note := closed_note(name, state.bounds):
        notes.append(note)
    if name == "retrainers":
        notes += _retrainer_notes(state)
    if name == "nightly":
        notes += schedule_notes(state.outlook)
        notes += [] if state.is_administrator else [ONLY_ADMINISTRATORS_SCHEDULE]
    if name == "time_zone":
        is_chosen = state.now.settings.time_zone != AUTOMATIC_ZONE
        notes.append(zone_note(state.outlook.zone, is_chosen=is_chosen))
    return titled(TITLES[name], notes)


def _retrainer_notes(state: PanelState) -> Iterator[str]:
    chosen = state.now.settings.retrainers
    if isinstance(chosen, int):
        yield phrase(
            "Now: {who}.", who=value_label("retrainers", chosen, state.places, state.bounds)
        )
        if chosen in state.places.roles:
            yield phrase(
                "Discord shows `/retrain` to managers only: under Server Settings, Integrations, "
                "allow it for this role."
            )
    if not state.is_administrator:
        yield ONLY_ADMINISTRATORS_CHOOSE


def model_text(state: PanelState) -> str:
    """What stands above the menu of models."""
    if state.loading is not None:
        return titled(MODEL_TITLE, [phrase("Loading {model}…", model=state.loading)])
    if state.missing is None:
        return titled(MODEL_TITLE)
    gone = phrase(
        "{missing} was chosen, but it is gone: {model} answers.",
        missing=state.missing,
        model=state.now.model,
    )
    return titled(MODEL_TITLE, [gone])


def channels_text(state: PanelState, shown: int) -> str:
    """What stands above the menu of channels, which has `shown` of them."""
    notes: list[str] = [phrase("Elsewhere I answer mentions and replies.")]
    if more := len(state.now.channels) - shown:
        notes.append(phrase("{count} more do not fit here: see `/settings export`.", count=more))
    if state.gone:
        notes.append(
            phrase("{count} of them I cannot see: deleted, archived or hidden.", count=state.gone)
        )
    return titled(CHANNELS_TITLE, notes)


def titled(title: Phrase, notes: list[str] | tuple[str, ...] = ()) -> str:
    """A heading with small print."""
    return f"**{say(title)}**" + (f"\n-# {say(join_phrases(notes))}" if notes else "")


def panel_heading(state: PanelState) -> str:
    title = say("Settings of {server}", server=quote_safely(state.server, 100))
    only_you = say("Only you see this. Each choice counts from the next message on.")
    return f"### {title}\n{only_you}"


def refusal_text(name: str) -> Phrase:
    """Why a field that only administrators choose was not changed."""
    return ONLY_ADMINISTRATORS_SCHEDULE if name in SCHEDULE else ONLY_ADMINISTRATORS_CHOOSE


# --- the audit, and the preview of an import -----------------------------------------------------


def change_text(name: str, value: Value, places: Places, bounds: Bounds) -> Phrase:
    """What was chosen, for the audit."""
    return phrase(
        "{setting}: {value}",
        setting=TITLES[name],
        value=value_label(name, value, places, bounds),
    )


def preview_lines(now: Snapshot, wanted: Snapshot, places: Places, bounds: Bounds) -> list[str]:
    """What an import would change, line by line; none if nothing."""
    lines = [
        _preview_line(TITLES[name], *_both_labels(name, now, wanted, places, bounds))
        for name in changed_fields(now.settings, wanted.settings)
    ]
    if wanted.model != now.model:
        lines.insert(0, _preview_line(MODEL_TITLE, now.model, wanted.model))
    for sign, channels in (
        ("+", wanted.channels - now.channels),
        ("−", now.channels - wanted.channels),
    ):
        if channels:
            names = " ".join(f"<#{one}>" for one in sorted(channels)[:MAX_CHANNELS_NAMED])
            more = " …" if len(channels) > MAX_CHANNELS_NAMED else ""
            lines.append(f"**{say(CHANNELS_TITLE)}** {sign} {names}{more}")
    return lines


def _both_labels(
    name: str, now: Snapshot, wanted: Snapshot, places: Places, bounds: Bounds
) -> tuple[str, str]:
    values = (getattr(one.settings, name) for one in (now, wanted))
    before, after = (value_label(name, one, places, bounds) for one in values)
    return before, after


def _preview_line(title: Phrase, before: str, after: str) -> str:
    return say(
        "**{setting}**: {before} → **{after}**",
        setting=title,
        before=_plain(before),
        after=_plain(after),
    )


def _plain(text: str) -> str:
    return text if isinstance(text, Phrase) else quote_safely(text, 100)
