"""Blind duels: two models answer the same message, a member presses which answer is better, and a
sequential test (`bot.judgement.sequential`) says when enough was pressed.

Does not know Discord. What decides is in the database: whatever is killed in between, no vote
counts twice and no duel ends twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from bot.chat.model_router import ModelRouter
from bot.chat.request import ReplyRequest, ShowPair
from bot.judgement.sequential import counted_votes, judge
from core.errors import Refusal
from core.records import Choice, Duel, DuelOutcome, DuelPair
from data.storage.storage import Storage
from i18n.phrase import phrase
from model.registry import ModelOption, find_option
from model.worker.messages import Finished

log = logging.getLogger(__name__)

MAX_DAYS = 14
"""Days after which a duel ends, however many votes there are."""
OTHER_FIELDS = (
    "model",
    "source",
    "seed",
    "cut",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
    "first_s",
    "sampling",
)
"""Of a reply's record: what differs between the two answers."""
SAME_MODEL = phrase("A duel needs two different models.")
DUEL_RUNNING = phrase(
    "A duel is running here already: `/duel show` shows it, and `/duel stop` ends it."
)
NO_DUEL = phrase("No duel is running here: `/duel start` starts one.")
PAIR_UNKNOWN = phrase(
    "I do not know these two answers any more: they or their question were deleted, or I was "
    "stopped before I could note them."
)

Remake = Callable[[ModelOption], Awaitable[ReplyRequest]]
"""Makes the request for a reply by another model."""


@dataclass(frozen=True, slots=True)
class DuelDraw:
    """Two requests for the same message, in the random order in which `show` is to show their
    answers."""

    duel_id: int
    a_first: bool
    upper: ReplyRequest
    lower: ReplyRequest
    show: ShowPair


@dataclass(frozen=True, slots=True)
class Standing:
    """A duel and its votes: how many count for either model and for neither, how many do not count,
    and how many members gave them."""

    duel: Duel
    a: int
    b: int
    alike: int
    uncounted: int
    members: int

    @property
    def counted(self) -> int:
        return self.a + self.b + self.alike


@dataclass(frozen=True, slots=True)
class Settled:
    """A pair after its vote: the `text` that stays, and whether the press was the vote, or somebody
    was faster."""

    text: str
    was_first: bool


class Duels:
    """The duels of all servers. Those that run are kept in memory, because every message asks."""

    def __init__(self, storage: Storage, models: ModelRouter) -> None:
        self._storage = storage
        self._table = storage.duels
        self._models = models
        self._chance = Random()
        self._running: dict[int, Duel] = {}

    async def load(self) -> None:
        """Read which ones ran when the bot was stopped."""
        self._running = {duel.scope: duel for duel in await self._table.running()}

    # --- the life of a duel ----------------------------------------------------------------------

    async def start(
        self,
        scope: int,
        names: tuple[str, str],
        share: int,
        channels: Set[int],
        report_channel_id: int,
    ) -> Duel:
        """Start a duel in these channels (none: everywhere) once both models are loaded.

        Raises:
            Refusal: one is running, or the models are the same.
            UnknownModel, ModelError, CorruptCheckpoint: a model is not there, or does not load.
        """
        options = self._models.options(scope)
        a, b = (find_option(options, name) for name in names)
        if a == b:
            raise Refusal(SAME_MODEL)
        if scope in self._running:
            raise Refusal(DUEL_RUNNING)
        for option in (a, b):
            await self._models.ensure_loaded(option)
        duel = await self._table.start(scope, (a.name, b.name), share, channels, report_channel_id)
        if duel is None:  # somebody else started one while the models were loaded
            raise Refusal(DUEL_RUNNING)
        self._running[scope] = duel
        return duel

    async def stop(self, scope: int) -> Standing:
        """End the running duel without a verdict.

        Raises:
            Refusal: none is running.
        """
        duel = self._running.get(scope)
        if duel is None or not await self._end(duel, DuelOutcome.STOPPED, announced=True):
            raise Refusal(NO_DUEL)
        return await self.newest(scope)

    async def leave(self, scope: int) -> None:
        """End the duel of a server that the bot is not in any more. Raises StoreError."""
        if (duel := self._running.get(scope)) is not None:
            await self._end(duel, DuelOutcome.STOPPED, announced=True)

    async def newest(self, scope: int) -> Standing:
        """The running duel, or the last one.

        Raises:
            Refusal: there was none.
        """
        if not (found := await self._table.newest(scope, 1)):
            raise Refusal(NO_DUEL)
        return await self.standing(found[0])

    async def get(self, duel_id: int) -> Duel | None:
        return await self._table.get(duel_id)

    async def standing(self, duel: Duel) -> Standing:
        """A duel and its votes so far."""
        return standing_of(duel, await self._table.votes(duel))

    async def review(self, now: datetime | None) -> None:
        """End the duels whose model is gone or whose time is over; while the time is not known for
        sure, no time is over."""
        for duel in list(self._running.values()):
            if None in self._models_of(duel):
                await self._end(duel, DuelOutcome.GONE)
            elif now is not None and now - duel.started_at >= timedelta(days=MAX_DAYS):
                await self._end(duel, DuelOutcome.EXPIRED)

    def _models_of(self, duel: Duel) -> list[ModelOption | None]:
        return [self._models.find(duel.scope, name) for name in (duel.model_a, duel.model_b)]

    async def unannounced(self) -> list[Standing]:
        """Those that ended, and nobody was told."""
        return [await self.standing(duel) for duel in await self._table.unannounced()]

    async def mark_announced(self, duel: Duel) -> None:
        await self._table.mark_announced(duel.id)

    async def _end(self, duel: Duel, outcome: DuelOutcome, *, announced: bool = False) -> bool:
        """End a duel; False if it had ended."""
        ended = await self._table.end(duel.id, outcome, announced=announced)
        if self._running.get(duel.scope) == duel:
            del self._running[duel.scope]
        if ended:
            log.info("the duel %d of %d ended: %s", duel.id, duel.scope, outcome)
        return ended

    # --- pairs of answers ------------------------------------------------------------------------

    async def draw(self, request: ReplyRequest, remake: Remake, show: ShowPair) -> DuelDraw | None:
        """Whether there are to be two answers to a message, and which; None: the usual one.

        Where the answer is taught or fixed there is nothing to compare. A duel whose model was
        deleted ends; one that is not in memory is loaded for the next messages.
        """
        duel = self._running.get(request.target.scope)
        if duel is None or (duel.channels and request.target.channel_id not in duel.channels):
            return None
        if self._chance.random() * 100 >= duel.share:
            return None
        there = [one for one in self._models_of(duel) if one is not None]
        if len(there) < 2:
            await self._end(duel, DuelOutcome.GONE)
            return None
        if not all([self._models.is_ready(one) for one in there]):  # both of them begin to load
            return None
        a_first = self._chance.random() < 0.5
        upper, lower = [await remake(one) for one in (there if a_first else reversed(there))]
        if any(one.known.answer or one.known.expected for one in (upper, lower)):
            return None
        return DuelDraw(duel.id, a_first, upper, lower, show)

    async def keep(self, draw: DuelDraw, reply_id: int, lower: Finished) -> None:
        """Store a pair that was shown, and recorded with its upper answer."""
        record = asdict(draw.lower.record(reply_id, lower))
        other = {name: record[name] for name in OTHER_FIELDS} | {"text": lower.text}
        pair = DuelPair(reply_id, draw.duel_id, draw.a_first, json.dumps(other))
        await self._table.add_pair(pair)

    async def is_open(self, reply_id: int) -> bool:
        """Whether a reply is a pair that nobody has voted on."""
        pair = await self._table.pair(reply_id)
        return pair is not None and pair.choice is None

    async def vote(self, reply_id: int, member_id: int, *, upper: bool | None) -> Settled:
        """Vote for the upper answer of a pair, or the lower one, or (None) for neither. The history
        then has the chosen one; of two that are alike, the upper one. The first vote counts.

        Raises:
            Refusal: the pair is not known.
            StoreError: press again.
        """
        if (pair := await self._table.pair(reply_id)) is None:
            raise Refusal(PAIR_UNKNOWN)
        choice = _choice(pair, upper)
        was_first = await self._table.vote(reply_id, member_id, choice)
        # Read again: the vote that counts may be another one, of somebody who was faster, or of
        # before the bot was killed.
        if (pair := await self._table.pair(reply_id)) is None:
            raise Refusal(PAIR_UNKNOWN)
        await self._settle(pair)
        stored = await self._storage.messages.get_many([reply_id])
        if not stored:
            raise Refusal(PAIR_UNKNOWN)
        await self._judge(pair.duel_id)
        return Settled(stored[0].message.content, was_first)

    async def _settle(self, pair: DuelPair) -> None:
        """Let the chosen answer be what was said. May be repeated."""
        if pair.other is None:
            return
        if pair.choice is (Choice.B if pair.a_first else Choice.A):
            record = await self._storage.replies.get(pair.reply_id)
            other: dict[str, Any] = json.loads(pair.other)
            await self._storage.messages.edit(pair.reply_id, other.pop("text"))
            if record is not None:
                await self._storage.replies.add(replace(record, **other))
        await self._table.settle(pair.reply_id)

    async def _judge(self, duel_id: int) -> None:
        """End a duel if its votes decide it."""
        duel = await self._table.get(duel_id)
        if duel is None or duel.ended_at is not None:
            return
        outcome = judge(counted_votes(await self._table.votes(duel)))
        if outcome is not None:
            await self._end(duel, outcome)


def standing_of(duel: Duel, votes: Sequence[tuple[int, Choice]]) -> Standing:
    """How a duel stands after these votes, each a member's id and their choice."""
    counted = counted_votes(votes)
    return Standing(
        duel=duel,
        a=counted.count(Choice.A),
        b=counted.count(Choice.B),
        alike=counted.count(Choice.ALIKE),
        uncounted=len(votes) - len(counted),
        members=len({member for member, _ in votes}),
    )


def _choice(pair: DuelPair, upper: bool | None) -> Choice:
    """Whose answer was chosen."""
    if upper is None:
        return Choice.ALIKE
    return Choice.A if upper is pair.a_first else Choice.B


def time_left(duel: Duel, now: datetime | None = None) -> timedelta:
    """Until a duel ends in any case."""
    return duel.started_at + timedelta(days=MAX_DAYS) - (now or datetime.now(UTC))
