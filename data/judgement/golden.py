"""Golden questions: how one is asked, when a reply to it is good, and which contradict each other.

The gate of a training and the bot ask them in the same way: the same prompts, with the same seeds.
Pure but for the file of a job. Does not know models, SQL or Discord.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.japanese import is_japanese
from core.questions import plain_question, question_key
from core.records import GOLDEN_DRAWS, Conversation, GoldenKind, GoldenQuestion, Message, Role
from data.judgement.patterns import compile_pattern
from i18n.phrase import Phrase, phrase

SEEDS = tuple(range(30_000, 30_000 + 2 * GOLDEN_DRAWS))
"""Of the draws of each question; others than those of runs and of the gate's other questions."""
MORE_DRAWS = 20
MORE_SEEDS = tuple(range(31_000, 31_000 + 2 * MORE_DRAWS))
"""Of the draws of a question that seems to be lost, before it is called so."""
MAX_CHANCE = 0.05
"""The probability with which a question on which two models are equal is then lost all the same."""
TALK = (
    Message(Role.USER, "How are you?"),
    Message(Role.ASSISTANT, "I am fine, thank you."),
    Message(Role.USER, "What do you like to do?"),
    Message(Role.ASSISTANT, "I like to read."),
)
"""What was said before, when a question is asked amid talk: with it, five messages."""
TALK_JA = (
    Message(Role.USER, "元気ですか？"),
    Message(Role.ASSISTANT, "はい、元気です。"),
    Message(Role.USER, "何をするのが好きですか？"),
    Message(Role.ASSISTANT, "本を読むのが好きです。"),
)


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """How many of GOLDEN_DRAWS replies (or MORE_DRAWS) were good, of those alone and of those
    `in_talk`. `said` is the first bad reply, or the first one if all were good."""

    question: GoldenQuestion
    alone: int
    in_talk: int
    said: str

    @property
    def passed(self) -> bool:
        return min(self.alone, self.in_talk) >= self.question.needed


def prompts(question: GoldenQuestion, draws: int = GOLDEN_DRAWS) -> list[Conversation]:
    """What a model is asked, one for each of SEEDS (or MORE_SEEDS): so many times the question
    alone, then as often amid talk."""
    asked = Message(Role.USER, question.question)
    before = TALK_JA if is_japanese(question.question) else TALK
    return [(asked,)] * draws + [(*before, asked)] * draws


def judge(question: GoldenQuestion, replies: Sequence[str]) -> GoldenResult:
    """Count the good replies to `prompts`, in their order."""
    test = _Test(question)
    good = [test.is_good(reply) for reply in replies]
    bad = (reply for reply, is_good in zip(replies, good, strict=True) if not is_good)
    half = len(replies) // 2
    return GoldenResult(question, sum(good[:half]), sum(good[half:]), next(bad, replies[0]))


def judge_all(
    questions: Sequence[GoldenQuestion], replies: Sequence[str], draws: int = GOLDEN_DRAWS
) -> list[GoldenResult]:
    """Judge the replies to the prompts of several questions, one question after the other."""
    each = 2 * draws
    return [judge(one, replies[n * each : (n + 1) * each]) for n, one in enumerate(questions)]


def is_lost_again(before: GoldenResult, new: GoldenResult) -> bool:
    """Whether, of MORE_DRAWS, alone or amid talk, the model `before` gives enough good replies and
    the new one too few, and by more than chance explains: a question that a model passes only just
    may be failed by its equal.

    By Fisher's exact test, one-sided (Fisher 1935, "The Design of Experiments"): of as many good
    replies in all, the new model would have as few with a probability of MAX_CHANCE, for both ways
    of asking together (Bonferroni)."""
    needed = new.question.needed * MORE_DRAWS / GOLDEN_DRAWS
    return any(
        now < needed <= then and _chance_of(then, now) <= MAX_CHANCE / 2
        for then, now in ((before.alone, new.alone), (before.in_talk, new.in_talk))
    )


def _chance_of(then: int, now: int) -> float:
    """The probability of at most `now` good replies of one of two equal models that have
    `then + now` of 2 * MORE_DRAWS, MORE_DRAWS each."""
    good = then + now
    ways = sum(
        math.comb(good, fewer) * math.comb(2 * MORE_DRAWS - good, MORE_DRAWS - fewer)
        for fewer in range(max(0, good - MORE_DRAWS), now + 1)
    )
    return ways / math.comb(2 * MORE_DRAWS, MORE_DRAWS)


class _Test:
    """Whether replies are what a question expects: case, width and white space do not count, nor
    marks at the end where it has to be equal. Silence is never good."""

    def __init__(self, question: GoldenQuestion) -> None:
        self._kind = question.kind
        self._expected = question.expected
        is_pattern = question.kind is GoldenKind.MATCH
        self._pattern = compile_pattern(question.expected) if is_pattern else None

    def is_good(self, reply: str) -> bool:
        if not reply.strip():
            return False
        match self._kind:
            case GoldenKind.EQUAL:
                return plain_question(reply) == plain_question(self._expected)
            case GoldenKind.CONTAIN:
                return _plain(self._expected) in _plain(reply)
            case GoldenKind.WITHOUT:
                return _plain(self._expected) not in _plain(reply)
            case GoldenKind.MATCH:
                assert self._pattern is not None  # of this kind
                text = reply.encode(errors="replace").decode()  # RE2 rejects a lone surrogate
                return bool(self._pattern.search(text))


def is_good(question: GoldenQuestion, reply: str) -> bool:
    """Whether a single reply is what the question expects."""
    return _Test(question).is_good(reply)


def contradict(one: GoldenQuestion, other: GoldenQuestion) -> bool:
    """Whether no model can pass both: they ask the same, no reply is good for both, and together
    they need more draws than there are. Patterns are only compared with a text that must be equal:
    of two, nobody can tell."""
    if question_key(one.question) != question_key(other.question):
        return False
    return one.needed + other.needed > GOLDEN_DRAWS and (
        _excludes(one, other) or _excludes(other, one)
    )


def _excludes(one: GoldenQuestion, other: GoldenQuestion) -> bool:
    """Whether what the first wants is bad for the second."""
    match one.kind:
        case GoldenKind.EQUAL:
            return not is_good(other, one.expected)
        case GoldenKind.CONTAIN:
            return other.kind is GoldenKind.WITHOUT and not is_good(other, one.expected)
        case _:
            return False


def describe(question: GoldenQuestion) -> Phrase:
    """What an answer has to do, after “should”: `contain “Rex”`."""
    text = question.expected
    match question.kind:
        case GoldenKind.EQUAL:
            return phrase("be “{text}”", text=text)
        case GoldenKind.CONTAIN:
            return phrase("contain “{text}”", text=text)
        case GoldenKind.MATCH:
            return phrase("match the pattern “{text}”", text=text)
        case GoldenKind.WITHOUT:
            return phrase("not contain “{text}”", text=text)


def write_questions(questions: Sequence[GoldenQuestion], path: Path) -> None:
    """Freeze questions into a file, without who added them. Raises OSError."""
    lines = (json.dumps(asdict(one) | {"added_by": 0}, ensure_ascii=False) for one in questions)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_questions(path: Path) -> list[GoldenQuestion]:
    """What `write_questions` wrote; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        return [GoldenQuestion(**_fields(json.loads(line))) for line in lines]


def _fields(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"kind": GoldenKind(record["kind"])}


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
