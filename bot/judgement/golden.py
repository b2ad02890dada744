"""The golden questions of a server: adding and removing them, and asking a model all of them.

Knows their table, the filters, the models and the worker. Does not know Discord. The gate of a
training asks them on its own (`training.run.gate.golden`), in the same way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cachetools import LRUCache

from bot.chat.filters import Blocked, Filters
from bot.chat.model_router import ModelRouter
from core.errors import Refusal
from core.records import (
    GOLDEN_DRAWS,
    Conversation,
    GoldenKind,
    GoldenQuestion,
    GoldenScore,
)
from data.judgement.golden import SEEDS, GoldenResult, contradict, describe, judge, prompts
from data.judgement.patterns import MAX_PROGRAM_SIZE, PATTERN_TOO_BIG, compile_pattern
from data.storage.storage import Storage
from i18n.phrase import message_of, phrase
from model.backend import GenerationBackend
from model.registry import ModelOption, find_option
from model.sampling import SamplingParams
from model.worker.messages import Finished

MAX_GOLDEN = 50
"""Golden questions of a server: each is asked 10 times by every gate."""
MAX_QUESTION_CHARS, MAX_EXPECTED_CHARS = 300, 200
"""Of which a reply, of usually 60 tokens at most, has room for the second."""
MAX_SUGGESTIONS = 100
SUGGESTIONS_KEPT = 64
"""Servers whose suggestions are in memory."""
RUN_S = 600.0
"""Seconds after which a run begins no further question: Discord waits a quarter of an hour."""
NO_GOLDEN = phrase(
    "There is no golden question in this server yet: `/golden add` adds one, and offers what I was "
    "taught most often."
)


@dataclass(frozen=True, slots=True)
class GoldenRun:
    """What a model answered to the golden questions, and those that there was no time for;
    `before` are the scores that the model in service had until then, by the id of the question."""

    model: str
    results: Sequence[GoldenResult]
    unasked: Sequence[GoldenQuestion]
    before: dict[int, GoldenScore]

    @property
    def regressions(self) -> list[GoldenResult]:
        """The results of questions that the model in service passed, and this run does not."""
        return [one for one in self.results if not one.passed and self.passed_before(one)]

    def passed_before(self, one: GoldenResult) -> bool | None:
        """Whether the model in service passed that question the last time; None if it was never
        asked."""
        score = self.before.get(one.question.id)
        return None if score is None else score.passed


@dataclass(frozen=True, slots=True)
class Added:
    """How many questions were added, and which ones were not, and why."""

    count: int
    refused: Sequence[tuple[str, str]]


class GoldenQuestions:
    """The golden questions of all servers."""

    def __init__(
        self,
        storage: Storage,
        filters: Filters,
        models: ModelRouter,
        worker: GenerationBackend,
    ) -> None:
        self._table = storage.golden
        self._examples = storage.examples
        self._filters = filters
        self._models = models
        self._worker = worker
        self._adding = asyncio.Lock()
        self._running: set[int] = set()
        self._suggested: LRUCache[int, tuple[object, list[int]]] = LRUCache(SUGGESTIONS_KEPT)

    async def all(self, scope: int) -> list[GoldenQuestion]:
        """A server's golden questions, oldest first."""
        return await self._table.all(scope)

    async def scores(self, scope: int) -> tuple[str, dict[int, GoldenScore]]:
        """The name of the model in service, and how it last answered, by the id of the question."""
        model = (await self._models.active(scope)).name
        return model, await self._table.scores(scope, model)

    async def add(self, new: GoldenQuestion) -> GoldenQuestion:
        """Add a question under a new id.

        Raises:
            Refusal: it is there already, contradicts another one, or can never be passed.
        """
        new = replace(new, question=new.question.strip(), expected=new.expected.strip())
        _validate(new)
        await self._check_filters(new)
        async with self._adding:  # of two that contradict each other, one is the second
            existing = await self._table.all(new.scope)
            if rival := next((one for one in existing if contradict(new, one)), None):
                raise Refusal(
                    phrase(
                        "That contradicts golden question {number}, by which the answer should "
                        "{expected}: no model can do both, so remove that one first.",
                        number=rival.id,
                        expected=describe(rival),
                    )
                )
            if len(existing) >= MAX_GOLDEN:
                raise Refusal(
                    phrase(
                        "This server has {most} golden questions, the most there can be: remove "
                        "one first.",
                        most=MAX_GOLDEN,
                    )
                )
            added = await self._table.add(new)
        if added is None:
            raise Refusal(phrase("That is a golden question already."))
        return added

    async def add_all(self, several: Sequence[GoldenQuestion]) -> Added:
        """Add those that can be added, in their order."""
        count, refused = 0, []
        for one in several:
            try:
                await self.add(one)
            except Refusal as e:
                refused.append((one.question, message_of(e)))
            else:
                count += 1
        return Added(count, refused)

    async def _check_filters(self, new: GoldenQuestion) -> None:
        if new.kind not in (GoldenKind.EQUAL, GoldenKind.CONTAIN):
            return
        guard = await self._filters.guard(new.scope)
        try:
            guard.check(new.expected)
        except Blocked as e:
            raise Refusal(
                phrase(
                    "A filter forbids that answer here, so I could never give it: expect another "
                    "one, or change the filter."
                )
            ) from e

    async def remove(self, scope: int, golden_id: int) -> GoldenQuestion:
        """Remove a question and how models answered it.

        Raises:
            Refusal: there is none of that number.
        """
        if gone := await self._table.remove(scope, golden_id):
            return gone
        raise Refusal(
            phrase(
                "There is no golden question {number} here; `/golden list` shows all.",
                number=golden_id,
            )
        )

    async def suggestions(self, scope: int) -> list[str]:
        """The questions that were taught most often and are not golden yet.

        Asked at every key that is pressed, so which ones they are (nobody's words) is kept until
        the data set or the golden questions change."""
        there = [one.id for one in await self._table.all(scope)]
        now = (await self._examples.version(scope), there)
        known, ids = self._suggested.get(scope, (None, []))
        if known != now:
            ids = await self._table.most_taught(scope, MAX_SUGGESTIONS)
            self._suggested[scope] = (now, ids)
        return await self._table.taught_questions(ids)

    async def taught_answer(self, scope: int, question: str) -> str | None:
        """The newest answer that was taught to a question; None without one."""
        return await self._table.taught_answer(scope, question)

    async def run(
        self, scope: int, name: str | None = None, *, limit_s: float = RUN_S
    ) -> GoldenRun:
        """Ask a model of the scope all its golden questions (None: the one in service), and keep
        the scores.

        Raises:
            Refusal: there are none, or a run is under way in that server.
            UnknownModel, ModelError, CorruptCheckpoint: it cannot be asked.
        """
        if scope in self._running:
            raise Refusal(phrase("The golden questions of this server are being asked already."))
        self._running.add(scope)
        try:
            return await self._run(scope, name, limit_s)
        finally:
            self._running.discard(scope)

    async def _run(self, scope: int, name: str | None, limit_s: float) -> GoldenRun:
        questions = await self._table.all(scope)
        if not questions:
            raise Refusal(NO_GOLDEN)
        serving = await self._models.active(scope)
        option = find_option(self._models.options(scope), name) if name else serving
        before = await self._table.scores(scope, serving.name)
        await self._models.ensure_loaded(option)
        results = await self._ask(option, questions, time.monotonic() + limit_s)
        await self._table.record(scope, [_score(option.name, one) for one in results])
        return GoldenRun(option.name, results, questions[len(results) :], before)

    async def _ask(
        self, option: ModelOption, questions: Sequence[GoldenQuestion], deadline: float
    ) -> list[GoldenResult]:
        """One question after the other, so that the worker has room for those who chat."""
        results: list[GoldenResult] = []
        for question in questions:
            if results and time.monotonic() > deadline:
                break
            asked = list(zip(prompts(question), SEEDS, strict=True))
            replies: list[str] = []
            while part := asked[len(replies) : len(replies) + GOLDEN_DRAWS]:
                replies += await asyncio.gather(*(self._reply(option, *one) for one in part))
            results.append(judge(question, replies))
        return results

    async def _reply(self, option: ModelOption, messages: Conversation, seed: int) -> str:
        """What the model says with the usual parameters, as in the gate."""
        events = self._worker.generate(option.source, messages, SamplingParams(seed=seed))
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Finished):
                    return event.text
        raise AssertionError("the worker's client always ends with Finished or raises")


def _score(model: str, one: GoldenResult) -> GoldenScore:
    return GoldenScore(
        golden_id=one.question.id,
        model=model,
        alone=one.alone,
        in_talk=one.in_talk,
        needed=one.question.needed,
        asked_at=datetime.now(UTC),
    )


def _validate(new: GoldenQuestion) -> None:
    """Raise Refusal for what is no question, or no expectation."""
    if not new.question or not new.expected:
        raise Refusal(phrase("A golden question needs a question, and what its answer should be."))
    if len(new.question) > MAX_QUESTION_CHARS or len(new.expected) > MAX_EXPECTED_CHARS:
        raise Refusal(
            phrase(
                "That is too long: a golden question has at most {question} characters, and what "
                "its answer should be {expected}.",
                question=MAX_QUESTION_CHARS,
                expected=MAX_EXPECTED_CHARS,
            )
        )
    if new.kind is not GoldenKind.MATCH:
        return
    compiled = compile_pattern(new.expected)
    if compiled.search(""):
        raise Refusal(phrase("That pattern fits every text, so every answer would be good."))
    if compiled.programsize > MAX_PROGRAM_SIZE:
        raise Refusal(PATTERN_TOO_BIG)
