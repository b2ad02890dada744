"""Whatever people do, in whatever order: only what they allow is learned, and what they take back
is gone.

Hypothesis plays three members of a server on a real store. Each thing that a member says holds a
word that nobody else ever says, so it is seen wherever it turns up.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.errors import NoConsent
from core.records import Example, NewExample, ReviewStatus
from data.dataset.snapshot import contributor_consents, write_snapshot
from data.storage.erasure import erase_member
from tests.data.storage.records import ADA, BEN, BOT, CLEO, GUILD, made, said
from tests.databases import open_empty

T = TypeVar("T")
MEMBERS = (ADA, BEN, CLEO)
members = st.sampled_from(MEMBERS)
picks = st.integers(0, 1000)


@dataclass
class Said:
    """A member's message, and the bot's reply to it; `words` are all that it ever said."""

    asked: int
    reply: int
    author: int
    text: str
    words: list[str]


class Server(RuleBasedStateMachine):
    """A server with three members, and a plain account of what they allow."""

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.opened = AsyncExitStack()
        path = self.folder / "db"
        self.storage = self.run(self.opened.enter_async_context(open_empty(path)))
        self.number = 0
        self.said: list[Said] = []
        self.agreed: set[int] = set()
        self.on_purpose: set[str] = set()
        self.words: dict[int, set[str]] = {one: set() for one in MEMBERS}
        self.taken_back: set[str] = set()
        self.erased: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.opened.aclose())
            self.loop.close()
            shutil.rmtree(self.folder)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def word(self, author: int) -> str:
        self.number += 1
        word = f"word{self.number:04}of{author}."
        self.words[author].add(word)
        return word

    def pick(self, pick: int) -> Said:
        return self.said[pick % len(self.said)]

    # --- what people do --------------------------------------------------------------------------

    @rule(author=members)
    def say(self, author: int) -> None:
        text = self.word(author)
        asked, reply = self.number * 10, self.number * 10 + 1
        self.said.append(Said(asked, reply, author, text, [text]))
        self.run(self.storage.messages.add(said(asked, text, author)))
        self.run(self.storage.replies.add(made(reply, asked, author)))
        answer = said(reply, f"you said {text}", BOT)
        self.run(self.storage.messages.add(answer, reply_to_id=asked))

    @rule(member=members, version=st.integers(1, 2))
    def agree(self, member: int, version: int) -> None:
        self.run(self.storage.consents.opt_in(GUILD, member, version))
        self.agreed.add(member)

    @rule(member=members)
    def withdraw(self, member: int) -> None:
        assert bool(self.run(self.storage.consents.opt_out(GUILD, member))) == (
            member in self.agreed
        )
        self.agreed.discard(member)

    @precondition(lambda self: self.said)
    @rule(pick=picks, member=members, value=st.sampled_from([-1, 0, 1]), collect=st.booleans())
    def rate(self, pick: int, member: int, value: int, collect: bool) -> None:
        one = self.pick(pick)
        self.run(self.storage.replies.rate(GUILD, one.reply, member, value))
        if collect:
            self.add(one, f"you said {one.text}", BOT, consent_version=1)

    @precondition(lambda self: self.said)
    @rule(pick=picks, member=members)
    def answer_better(self, pick: int, member: int) -> None:
        one, answer = self.pick(pick), self.word(member)
        if self.add(one, answer, member, consent_version=None, corrects=True):
            self.on_purpose.add(answer)
            if one.author == member:
                self.on_purpose.add(one.text)

    def add(self, one: Said, bot: str, author: int, **more: Any) -> bool:
        """Whether the store took it; it must not without consent."""
        try:
            self.run(
                self.storage.examples.add(
                    NewExample(
                        GUILD,
                        one.text,
                        bot,
                        author,
                        "x",
                        asked_by=one.author,
                        reply_id=one.reply,
                        **more,
                    )
                )
            )
        except NoConsent:
            assert one.author not in self.agreed
            assert author != one.author
            return False
        assert author == one.author or one.author in self.agreed
        # a late press of a button may bring words back of a message that is gone
        self.erased -= {word for word in self.words[one.author] if word in one.text}
        self.taken_back -= {word for word in self.words[one.author] if word in one.text}
        return True

    @rule(member=members)
    def teach(self, member: int) -> None:
        user, bot = self.word(member), self.word(member)
        self.run(self.storage.examples.add(NewExample(GUILD, user, bot, member, "teach")))
        self.on_purpose |= {user, bot}

    @precondition(lambda self: self.said)
    @rule(pick=picks)
    def edit(self, pick: int) -> None:
        one = self.pick(pick)
        text = self.word(one.author)
        if self.run(self.storage.messages.edit(one.asked, text)):
            self.taken_back.add(one.text)
            one.text = text
        else:
            self.words[one.author].discard(text)

    @precondition(lambda self: self.said)
    @rule(pick=picks)
    def delete(self, pick: int) -> None:
        one = self.pick(pick)
        self.run(self.storage.messages.delete([one.asked]))
        self.taken_back.add(one.text)

    @rule(pick=picks, review=st.sampled_from(ReviewStatus))
    def review(self, pick: int, review: ReviewStatus) -> None:
        if found := self.run(self.storage.examples.all(GUILD)):
            one = found[pick % len(found)]
            assert self.run(self.storage.examples.set_review(GUILD, one.id, review))

    @rule(member=members, batch=st.integers(1, 3))
    def forget(self, member: int, batch: int) -> None:
        self.run(erase_member(self.storage, member, batch))
        self.agreed.discard(member)
        self.erased |= self.words[member]
        self.on_purpose -= self.words[member]
        self.said = [one for one in self.said if one.author != member]
        files = [path for path in self.folder.iterdir() if path.name.startswith("db")]
        in_the_files = b"".join(path.read_bytes() for path in files)
        assert not [word for word in self.words[member] if word.encode() in in_the_files]
        self.words[member] = set()

    @rule()
    def freeze(self) -> None:
        learned = self.run(self.storage.examples.trainable(GUILD))
        write_snapshot(learned, self.folder / "snapshot")
        self.check((self.folder / "snapshot").read_text(), learned)
        sources = contributor_consents(learned)
        for member, version in sources.items():
            assert version is None or member in self.agreed

    # --- what must be true -----------------------------------------------------------------------

    @invariant()
    def only_what_is_allowed_is_learned(self) -> None:
        if hasattr(self, "storage"):
            learned = self.run(self.storage.examples.trainable(GUILD))
            self.check(json.dumps([(one.user, one.bot) for one in learned]), learned)

    def check(self, text: str, learned: list[Example]) -> None:
        for member, words in self.words.items():
            found = {word for word in words - self.on_purpose if word in text}
            assert not found or member in self.agreed
        assert not [word for word in self.taken_back - self.on_purpose if word in text]
        assert not [word for word in self.erased if word in text]
        assert all(one.status is ReviewStatus.APPROVED for one in learned)

    @invariant()
    def nobody_is_told_the_words_of_another(self) -> None:
        if hasattr(self, "storage"):
            for member in MEMBERS:
                told = json.dumps(self.run(self.storage.members.export(member)))
                for other in set(MEMBERS) - {member}:
                    assert not [word for word in self.words[other] if word in told]

    @invariant()
    def the_counts_are_those_of_the_examples(self) -> None:
        if hasattr(self, "storage"):
            counted = self.run(self.storage.growth.statuses(GUILD))
            assert counted == Counter(
                one.status for one in self.run(self.storage.examples.all(GUILD))
            )


TestServer = Server.TestCase
TestServer.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
