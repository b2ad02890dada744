"""What people prefer, as rows to learn from: votes on replies, and better answers. Pure but for the
file.

A row names a reply that is good, one that is bad, or both: a vote gives one of them, a better
answer both. Whose words may be learned is decided by the query (`Examples.judged`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

from core.files import write_atomically
from core.records import Example, JudgedReply
from data.dataset.cleaning import CHAT_SOURCE, clean_text, is_learnable
from data.dataset.snapshot import pair_digest
from i18n.phrase import Phrase, phrase, phrases

OWN_QUESTION_WEIGHT = 0.5
"""Of a vote on the reply to one's own message: whoever plays alone with the bot votes on every
reply."""
MAX_ROW_WEIGHT = 3.0
"""Of the mean weight: however many people agree on one reply, it is one reply."""
MIN_ROWS = 30
"""With fewer, the third of them that is held out could not tell a taste from chance."""

MAX_ROWS = 1000
"""The newest that are learned: more would not be seen in the steps there are."""

_Key = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True)
class Preference:
    """To `user` the bot should rather answer `good` than `bad`; of a vote, one of them is None. The
    mean `weight` of a data set is 1. `voters` are those whose votes say the same as the row, by
    numbers that mean something in this data set only; nobody's for a better answer."""

    user: str
    good: str | None
    bad: str | None
    weight: float = 1.0
    voters: tuple[int, ...] = ()

    @property
    def is_pair(self) -> bool:
        return self.good is not None and self.bad is not None


@dataclass(frozen=True, slots=True)
class PreferenceCounts:
    """How many votes and better answers there are to learn from, and by how many people."""

    votes: int = 0
    corrections: int = 0
    people: int = 0
    rows: int = 0

    @property
    def suffice(self) -> bool:
        return self.rows >= MIN_ROWS

    def as_text(self) -> Phrase:
        """`120 votes and 3 better answers of 14 people`."""
        people = phrases("{count} person", "{count:,} people", self.people)
        votes = phrases("{count} vote", "{count:,} votes", self.votes)
        better = phrases("{count} better answer", "{count:,} better answers", self.corrections)
        if self.votes and self.corrections:
            both = {"votes": votes, "better": better, "people": people}
            return phrase("{votes} and {better} of {people}", **both)
        return phrase("{what} of {people}", what=votes if self.votes else better, people=people)


@dataclass(frozen=True, slots=True)
class PreferenceSelection:
    """The rows in a fixed order, and the judged replies that they were made of."""

    rows: tuple[Preference, ...] = ()
    judged: tuple[JudgedReply, ...] = ()

    @property
    def counts(self) -> PreferenceCounts:
        return PreferenceCounts(
            votes=sum(len(one.votes) for one in self.judged),
            corrections=sum(one.example.corrects for one in self.judged),
            people=len({who for one in self.judged for who in one.judges}),
            rows=len(self.rows),
        )


def select_preferences(
    judged: Iterable[JudgedReply], learned: Collection[Example], may_say: Callable[[str], bool]
) -> PreferenceSelection:
    """The rows of the newest judged replies, which come oldest first, cleaned as examples are.

    Good is only what is among the `learned` examples (another answer may have replaced it since),
    and what `may_say` allows: a filter might withhold it today. A pair that is learned is never
    bad, whatever its votes weigh; nor is an answer that was taught on purpose.

    Somebody who judges n replies weighs as much as the square root of n in all, as in quadratic
    voting (Lalley & Weyl 2018), so that many agree rather than one insists."""
    usable = [one for one in map(_clean, judged) if _is_usable(one)][-MAX_ROWS:]
    times = Counter(who for one in usable for who in one.judges)
    scores: dict[_Key, float] = defaultdict(float)
    votes: dict[_Key, list[tuple[int, int]]] = defaultdict(list)
    for one in usable:
        signs = {who: one.votes.get(who, 1) for who in one.judges}
        votes[_key(one)] += one.votes.items()
        scores[_key(one)] += sum(sign * _share(one, who, times[who]) for who, sign in signs.items())
    rows = {key: _row(*key, score) for key, score in scores.items() if score}
    pairs = {(one.user, one.bot) for one in learned}
    taught = {one.bot for one in learned if not _is_collected(one)}
    rows = {
        key: row
        for key, row in rows.items()
        if row.bad not in taught
        and (row.user, row.bad) not in pairs
        and (row.good is None or ((row.user, row.good) in pairs and may_say(row.good)))
    }
    judged = tuple(one for one in usable if _key(one) in rows)
    agreeing = {
        key: {who for who, sign in votes[key] if (sign > 0) is (row.good is not None)}
        for key, row in rows.items()
        if not row.is_pair
    }
    return PreferenceSelection(_normalized(rows, agreeing), judged)


def _key(one: JudgedReply) -> _Key:
    """What makes one row: the question, the reply, and what replaced it."""
    return one.example.user, one.reply, one.example.bot if one.example.corrects else None


def _row(user: str, reply: str, better: str | None, score: float) -> Preference:
    if better is not None:
        return Preference(user, better, reply, score)
    good, bad = (reply, None) if score > 0 else (None, reply)
    return Preference(user, good, bad, abs(score))


def _share(one: JudgedReply, who: int, times: int) -> float:
    """What somebody's judgement weighs who made so many."""
    own = OWN_QUESTION_WEIGHT if who == one.asked_by and not one.example.corrects else 1.0
    return own / math.sqrt(times)


def _normalized(
    rows: Mapping[_Key, Preference], agreeing: Mapping[_Key, Collection[int]]
) -> tuple[Preference, ...]:
    """The rows, sorted, with a mean weight of about 1, and with numbers for those who agree with
    them, in the order in which they first appear."""
    if not rows:
        return ()
    mean = fmean(one.weight for one in rows.values())
    made, numbers = [], dict[int, int]()
    for key in sorted(rows, key=lambda key: _order(rows[key])):
        row = rows[key]
        for who in sorted(agreeing.get(key, ())):
            numbers.setdefault(who, len(numbers))
        voters = tuple(sorted(numbers[who] for who in agreeing.get(key, ())))
        weight = min(MAX_ROW_WEIGHT, round(row.weight / mean, 4))
        made.append(replace(row, weight=weight, voters=voters))
    return tuple(made)


def _order(row: Preference) -> tuple[str, str, str]:
    return row.user, row.good or "", row.bad or ""


def _is_collected(one: Example) -> bool:
    """Whether nobody handed the pair over on purpose. An answer to somebody else's question has a
    consent too, and an imported pair names any source."""
    return one.source == CHAT_SOURCE and one.consent_version is not None


def _clean(one: JudgedReply) -> JudgedReply:
    return one.with_texts(*map(clean_text, (one.example.user, one.example.bot, one.reply)))


def _is_usable(one: JudgedReply) -> bool:
    example = one.example
    replied = replace(example, bot=one.reply, source=CHAT_SOURCE)
    is_same = example.corrects and example.bot == one.reply
    return is_learnable(example) and is_learnable(replied) and not is_same


def preference_digests(rows: Iterable[Preference]) -> list[str]:
    """The digests of all pairs of a question and a reply in the rows, sorted."""
    pairs = ((one.user, said) for one in rows for said in (one.good, one.bad) if said is not None)
    return sorted({pair_digest(*pair) for pair in pairs})


def write_preferences(rows: Sequence[Preference], path: Path) -> str:
    """Write the rows as JSON lines; return the file's SHA-256 in hex. It holds nobody's id: voters
    are numbers that no other file has. Raises DiskFull, StoreError: it could not be written."""
    lines = (json.dumps(asdict(one), ensure_ascii=False) for one in rows)
    content = "".join(f"{line}\n" for line in lines).encode()
    write_atomically(path, content, phrase("The votes"))
    return hashlib.sha256(content).hexdigest()


def read_preferences(path: Path) -> list[Preference]:
    """The rows of a file; none if it is not there. A file of before rows had voters has none."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as lines:
        read = (Preference(**json.loads(line)) for line in lines)
        return [replace(one, voters=tuple(one.voters)) for one in read]
