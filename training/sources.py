"""The sources of `gpt2bot train --dataset`: a file, or a public data set by its name.

Does not know the formats of files (`data.formats`), nor what the conversations are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from core.records import Conversation, Pair
from data.dataset.snapshot import consecutive_turns
from data.formats.files import read_pairs as read_file
from data.formats.import_result import ImportResult
from data.formats.registry import SUPPORTED_FORMATS
from i18n.phrase import Phrase, phrase, phrases
from model.chat_template import from_pair
from training.errors import EmptyDataset, NoSuchData

CHITCHAT = "chitchat"
CHATTERBOT = "chatterbot"
MAX_BYTES = 10**9
"""The largest file: more than people may upload, since it is the operator's own."""


def load_conversations(
    spec: str, limit: int | None = None, *, tell: Callable[[str], None] = lambda _: None
) -> list[Conversation]:
    """The first `limit` conversations of a file, of `chitchat`, or of `chatterbot:LANGUAGE:TOPIC`,
    where the topic can be left out. `tell` gets a sentence about rows that are wrong, which are
    skipped.

    Raises:
        NoSuchData: there is no such file or data set.
        ImportRefused: the file cannot be read; the sentence says why.
        EmptyDataset: it holds no conversation.
    """
    name, _, part = spec.partition(":")
    if name in (CHITCHAT, CHATTERBOT) and not Path(spec).exists():
        found = _public_dataset(spec, name, part or "english")
    else:
        found = _imported_file(spec, tell)
    conversations = list(islice(found, limit))
    if not conversations:
        raise EmptyDataset(phrase("There is no conversation in {spec}.", spec=spec))
    return conversations


def _public_dataset(spec: str, name: str, part: str) -> Iterable[Conversation]:
    language, _, topic = part.partition(":")
    try:
        from training import corpora

        if name == CHITCHAT:
            return list(corpora.chitchat())
        return list(corpora.chatterbot([topic] if topic else None, language))
    except ModuleNotFoundError as e:
        raise NoSuchData(
            phrase(
                "The data set “{spec}” comes in a package that is not installed: "
                'pip install "gpt2-discord-bot[starter]"',
                spec=spec,
            )
        ) from e
    except FileNotFoundError as e:
        raise NoSuchData(phrase("chatterbot-corpus has no “{part}”.", part=part)) from e


def _imported_file(spec: str, tell: Callable[[str], None]) -> Iterable[Conversation]:
    path = Path(spec)
    if not path.is_file():
        raise NoSuchData(
            phrase(
                "There is no file {spec}: give a file ({kinds}), chitchat, or chatterbot:english.",
                spec=spec,
                kinds=SUPPORTED_FORMATS,
            )
        )
    imported = read_file(path, max_bytes=MAX_BYTES)
    if imported.errors:
        wrong = skipped_rows_message(imported)
        if not imported.pairs:
            raise EmptyDataset(
                phrase("There is no conversation in {spec}. {wrong}", spec=spec, wrong=wrong)
            )
        tell(
            phrase(
                "{wrong} `gpt2bot dataset check {spec}` shows all of them.", wrong=wrong, spec=spec
            )
        )
    return conversations_of(imported.pairs)


def skipped_rows_message(imported: ImportResult) -> Phrase:
    """How many rows are wrong, and what is wrong with the first."""
    count = len({(one.sheet, one.row) for one in imported.errors})
    first = imported.errors[0]
    where = (
        phrase("row {row} of the sheet “{sheet}”", row=first.row, sheet=first.sheet)
        if first.sheet
        else phrase("row {row}", row=first.row)
    )
    return phrases(
        "{count} row was left out; the first is {where}: {reason}",
        "{count:,} rows were left out; the first is {where}: {reason}",
        count,
        where=where,
        reason=first.reason,
    )


def conversations_of(pairs: Iterable[Pair]) -> Iterator[Conversation]:
    """Pairs joined to conversations by their turns, split where a turn is missing."""
    talks: dict[str | int, list[Pair]] = {}
    for place, pair in enumerate(pairs):
        talks.setdefault(pair.conversation or place, []).append(pair)
    for turns in talks.values():
        for chain in consecutive_turns(turns):
            yield tuple(message for one in chain for message in from_pair(one.user, one.bot))
