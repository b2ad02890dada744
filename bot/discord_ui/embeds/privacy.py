"""The texts of /privacy: what is stored about a member, the effects of opt-out and erasure, and the
receipt of a clean retrain."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bot.discord_ui.views.clean_retrain import join_checkpoint_names
from bot.learning.erasure import AffectedScope, Withdrawal
from core.records import MemberDataSummary
from i18n.phrase import Phrase, phrase, phrases
from i18n.reader import say

ERASURE_QUESTION = phrase(
    "Shall I forget you, in all servers? This permanently erases what you wrote to me, my "
    "replies to you, the examples that contain your words or that you taught, and your "
    "ratings; your consents are withdrawn. What a checkpoint has learned stays in it: I "
    "ask the administrators to train a new one without it."
)
ERASURE_STARTED = phrase(
    "I am forgetting you now, and will tell you here when it is done. Discord lets me "
    "write here for only 15 minutes: if it takes longer, `/privacy show` says how far I am."
)
ERASURE_UNFINISHED = phrase("Not every trace is gone yet; I continue by myself within the hour.")
RETAINED_AFTER_ERASURE = phrase(
    "I keep the dates of your consents, without any words, and, if you made decisions "
    "about me as a manager, what you did and when. If you write to me again, I start to "
    "keep what you write again."
)
EXPORT_TOO_LARGE = phrase(
    "What I keep about you is too large to be sent here, even compressed. Please ask the "
    "operator for it."
)
EXPORTED = phrase("This is all that I keep about you, in all servers. Only you see this message.")
TRACE_LABELS = (
    ("messages", phrase("messages that you wrote")),
    ("replies", phrase("replies to you, with what they were made from")),
    ("examples", phrase("examples with your words, or that you taught")),
    ("ratings", phrase("ratings that you gave")),
    ("jobs", phrase("training jobs that used your words")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacySummary:
    """The content of `/privacy show`; `checkpoints` is None in a direct message."""

    here: MemberDataSummary
    everywhere: MemberDataSummary
    retention_days: int
    learn_from_chat: bool
    checkpoints: tuple[str, ...] | None
    erasure_pending: bool


def show_text(kept: PrivacySummary) -> str:
    """What is stored, for how long, what is learned from it, and what the member can do."""
    lines = [say("**What I keep about you** (here / everywhere)")]
    for name, words in TRACE_LABELS:
        here, everywhere = getattr(kept.here, name), getattr(kept.everywhere, name)
        counts = f"{here:,} / {everywhere:,}"
        lines.append(say("- {what}: {counts}", what=words, counts=counts))
    lines.append("")  # else the list goes on
    if kept.erasure_pending:
        lines.append(say("I am still erasing it: that continues by itself."))
    lines += [
        say(
            "Messages, and what replies were made from, are erased after {days}. "
            "Examples and ratings stay until somebody removes them.",
            days=days_text(kept.retention_days),
        ),
        say(learning_text(kept)),
    ]
    if kept.checkpoints is not None:
        lines.append(say(learned_text(kept.checkpoints)))
    lines.append(
        say(
            "**What you can do:** `/privacy export` gives you all of it as a file, "
            "`/privacy forget` erases it, `/privacy opt-in` and `/privacy opt-out` decide whether "
            "I learn from what you say."
        )
    )
    return "\n".join(lines)


def learning_text(kept: PrivacySummary) -> Phrase:
    """Whether the bot learns from conversations, and whether the member agreed."""
    if kept.checkpoints is None:
        return phrase("I do not learn from private conversations.")
    if not kept.learn_from_chat:
        rule = phrase("I do not learn from conversations here: the operator has not switched it on")
    else:
        rule = phrase("I learn from conversations here, but only with those who agree")
    if consent := kept.here.consent:
        return phrase(
            "{rule}. You agreed on {day} (version {version}).",
            rule=rule,
            day=f"{consent.given_at:%Y-%m-%d}",
            version=consent.version,
        )
    return phrase("{rule}. You have not agreed.", rule=rule)


def learned_text(checkpoints: tuple[str, ...]) -> Phrase:
    """The checkpoints of this server that learned from the member."""
    if not checkpoints:
        return phrase("No checkpoint of this server is known to have learned your words.")
    return phrase(
        "Learned your words: {checkpoints}.", checkpoints=join_checkpoint_names(checkpoints)
    )


def withdrawn_text(withdrawal: Withdrawal, where: str) -> str:
    """The effects of an opt-out; `where` is a phrase such as "in this server"."""
    if withdrawal.was_given:
        lines = [
            say("Withdrawn. I learn nothing more from what you say to me {where}.", where=where)
        ]
    else:
        lines = [say("You had not agreed {where}, so there is nothing to withdraw.", where=where)]
    if withdrawal.erased:
        waited = phrases(
            "{count} pair waited for review and are erased.",
            "{count:,} pairs waited for review and are erased.",
            withdrawal.erased,
        )
        lines.append(say(waited))
    if withdrawal.was_given:
        lines.append(say("What was approved before is not learned any more."))
    checkpoints = tuple(name for one in withdrawal.affected_scopes for name in one.checkpoints)
    if checkpoints:
        lines.append(
            say(
                "What was learned before stays in {checkpoints}, until a new one is trained.",
                checkpoints=join_checkpoint_names(checkpoints),
            )
        )
    return " ".join(lines)


def erasure_text(concerns: Iterable[AffectedScope], server: Callable[[int], str]) -> str:
    """What was erased and what remains; `server` returns the name of a scope."""
    lines = [
        say("Done: what I kept about you is gone, in all servers."),
        say(RETAINED_AFTER_ERASURE),
    ]
    for one in concerns:
        if one.checkpoints:
            lines.append(
                say(
                    "In {server}, {checkpoints} learned from you. I asked the administrators to "
                    "train without that; I did not say who asked for it.",
                    server=server(one.scope),
                    checkpoints=join_checkpoint_names(one.checkpoints),
                )
            )
    return "\n".join(lines)


def pack_export(export: Mapping[str, Any], limit: int) -> tuple[str, bytes] | None:
    """The name and content of the export: JSON, zipped if it exceeds `limit` bytes (blocking).

    None if even the zip file exceeds it.
    """
    content = json.dumps(export, ensure_ascii=False, indent=2).encode()
    if len(content) <= limit:
        return "privacy.json", content
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("privacy.json", content)
    return ("privacy.zip", file.getvalue()) if file.tell() <= limit else None


def receipt_text(receipt: Mapping[str, Any]) -> str:
    """What a receipt says, and which checkpoints still have what was forgotten."""
    lines = [say(receipt["summary"])]
    if still_there := tuple(receipt["checkpoints_that_learned_it"]):
        lines.append(
            say(
                "It is still in {checkpoints}: `/model delete` removes them.",
                checkpoints=join_checkpoint_names(still_there),
            )
        )
    lines.append(say("The file has the figures, and what they do not prove."))
    return "\n".join(lines)


def receipt_content(receipt: Mapping[str, Any]) -> bytes:
    """The file of a receipt: JSON, with its sentences in the reader's language."""
    sentences = {
        "summary": say(receipt["summary"]),
        "does_not_prove": [say(one) for one in receipt["does_not_prove"]],
    }
    return json.dumps({**receipt, **sentences}, ensure_ascii=False, indent=2).encode()


def days_text(days: int) -> Phrase:
    return phrases("a day", "{count:,} days", days)
