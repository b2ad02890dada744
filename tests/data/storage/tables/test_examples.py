"""The data set: what is added, looked after, and what of it may be learned."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from core.errors import NoConsent, StoreError
from core.records import Example, NewExample, Pair, ReviewStatus
from data.storage.erasure import erase_member
from data.storage.storage import Storage
from data.storage.tables.examples import PAGE_EXAMPLES
from tests.data.storage.records import ADA, BEN, BOT, CLEO, GUILD, OTHER, made, said


async def taught(storage: Storage, user: str = "a", bot: str = "b", **more: object) -> Example:
    return await storage.examples.add(NewExample(GUILD, user, bot, ADA, "teach", **more))  # type: ignore[arg-type]


async def collected(
    storage: Storage, user: str = "hello", bot: str = "hi", by: int = BEN
) -> Example:
    return await storage.examples.add(
        NewExample(GUILD, user, bot, BOT, "liked", asked_by=by, reply_id=100, consent_version=1)
    )


async def texts(storage: Storage) -> list[str]:
    return [one.user for one in await storage.examples.trainable(GUILD)]


async def test_every_field_comes_back(storage: Storage) -> None:
    await storage.consents.opt_in(GUILD, BEN, 4)
    added = await taught(
        storage,
        asked_by=BEN,
        reply_id=100,
        consent_version=4,
        corrects=True,
        status=ReviewStatus.WAITING,
        weight=2,
    )
    assert added == Example(
        added.id, GUILD, "a", "b", ADA, "teach", added.created_at, ReviewStatus.WAITING, 2, "", 0,
        BEN, 100, 4, True,
    )  # fmt: skip
    assert await storage.examples.all(GUILD) == [added]
    assert await storage.examples.get(GUILD, added.id) == added
    assert await storage.examples.get(OTHER, added.id) is None


async def test_of_the_same_pair_the_higher_weight_and_the_review_stay(storage: Storage) -> None:
    first = await taught(storage, status=ReviewStatus.WAITING, weight=2)
    assert await taught(storage, weight=1) == first
    assert await taught(storage, weight=3) == replace(first, weight=3)
    approved = replace(first, weight=3, status=ReviewStatus.APPROVED)
    assert await taught(storage, by_manager=True) == approved
    assert await taught(storage, status=ReviewStatus.WAITING) == approved


class TestWhoseWords:
    """Whatever is added later, stored words stay whose they are, and as they were reviewed."""

    async def teach(self, storage: Storage, user: str, bot: str) -> None:
        await storage.examples.add(NewExample(GUILD, user, bot, ADA, "teach"))

    async def answer_better(self, storage: Storage, user: str, bot: str) -> None:
        new = NewExample(GUILD, user, bot, ADA, "better answer", reply_id=7, corrects=True)
        await storage.examples.add(new)

    async def import_it(self, storage: Storage, user: str, bot: str) -> None:
        await storage.examples.add_pairs(GUILD, [Pair(user, bot)], ADA, "import")

    async def edit_into_it(self, storage: Storage, user: str, bot: str) -> None:
        other = await taught(storage, "something", "else")
        with pytest.raises(StoreError, match="already"):
            await storage.examples.edit(GUILD, other.id, user, bot)
        await storage.examples.remove(GUILD, other.id)

    async def collect(self, storage: Storage, user: str, bot: str) -> None:
        await storage.consents.opt_in(GUILD, ADA, 1)
        new = NewExample(GUILD, user, bot, ADA, "chat", asked_by=ADA, consent_version=1)
        await storage.examples.add(new)

    WAYS = ("teach", "answer_better", "import_it", "edit_into_it", "collect")

    @pytest.mark.parametrize("status", ReviewStatus)
    @pytest.mark.parametrize("way", WAYS)
    async def test_what_was_collected_stays_with_its_member(
        self, storage: Storage, way: str, status: ReviewStatus
    ) -> None:
        await storage.consents.opt_in(GUILD, BEN, 1)
        first = await collected(storage)
        await storage.examples.set_review(GUILD, first.id, status)
        first = replace(first, status=status)
        await getattr(self, way)(storage, first.user, first.bot)
        assert await storage.examples.all(GUILD) == [first]
        assert bool(await texts(storage)) == (status is ReviewStatus.APPROVED)
        await storage.consents.opt_out(GUILD, BEN)
        assert await texts(storage) == []
        await erase_member(storage, BEN)
        assert await storage.examples.all(GUILD) == []

    @pytest.mark.parametrize("way", ["teach", "answer_better", "import_it"])
    async def test_a_second_teacher_is_a_second_source(self, storage: Storage, way: str) -> None:
        first = await storage.examples.add(NewExample(GUILD, "a", "b", BEN, "teach"))
        await getattr(self, way)(storage, "a", "b")
        assert await storage.examples.all(GUILD) == [first]
        assert await storage.examples.other_teachers([first.id]) == [ADA]
        assert (await storage.members.summary(ADA)).examples == 1
        [told] = (await storage.members.export(ADA))["examples"]
        assert (told["user"], told["bot"]) == ("a", "b")
        await erase_member(storage, BEN)
        [left] = await storage.examples.trainable(GUILD)
        assert (left.id, left.author_id, left.asked_by) == (first.id, ADA, None)
        assert await storage.examples.other_teachers([first.id]) == []
        assert (await storage.members.summary(BEN)).examples == 0
        await erase_member(storage, ADA)
        assert await storage.examples.all(GUILD) == []

    async def test_who_taught_second_may_be_forgotten_first(self, storage: Storage) -> None:
        first = await taught(storage)
        await storage.examples.add(NewExample(GUILD, "a", "b", BEN, "teach"))
        await erase_member(storage, BEN)
        assert await storage.examples.all(GUILD) == [first]
        assert await storage.examples.other_teachers([first.id]) == []
        assert (await storage.members.summary(BEN)).examples == 0

    async def test_words_of_another_that_were_taught_second_need_their_consent(
        self, storage: Storage
    ) -> None:
        await storage.consents.opt_in(GUILD, BEN, 1)
        await taught(storage)
        await storage.examples.add(NewExample(GUILD, "a", "b", CLEO, "better", asked_by=BEN))
        await erase_member(storage, ADA)
        assert await texts(storage) == ["a"]
        await storage.consents.opt_out(GUILD, BEN)
        assert await texts(storage) == []

    async def test_own_words_that_were_collected_become_taught_but_stay_under_review(
        self, storage: Storage
    ) -> None:
        await self.collect(storage, "a", "b")
        [first] = await storage.examples.all(GUILD)
        await storage.examples.set_review(GUILD, first.id, ReviewStatus.WAITING)
        again = await taught(storage)
        assert again == replace(
            first, source="teach", asked_by=None, consent_version=None, status=ReviewStatus.WAITING
        )
        await storage.examples.set_review(GUILD, first.id, ReviewStatus.APPROVED)
        await storage.consents.opt_out(GUILD, ADA)
        assert await texts(storage) == ["a"]


SAME_QUESTION = [
    "Who is it?",
    "who  IS\nit? ",
    "Ｗｈｏ is it？",
    "Who\u200b is it?",
    "<@123> `who` is it?",
    "who is it",
    "Who is it?!",
]
SPELLINGS = [*SAME_QUESTION, "Who, is it?"]


class TestReviewOfMembers:
    @pytest.mark.parametrize("user", SPELLINGS)
    @pytest.mark.parametrize("author", [ADA, BEN])
    @pytest.mark.parametrize("status", [ReviewStatus.REJECTED, ReviewStatus.WAITING])
    async def test_it_stands_however_the_words_are_spelled_and_whoever_teaches_them(
        self, storage: Storage, user: str, author: int, status: ReviewStatus
    ) -> None:
        first = await taught(storage, "Who is it?", "Me!")
        await storage.examples.set_review(GUILD, first.id, status)
        again = NewExample(GUILD, user, "me", author, "teach", may_replace=True)
        assert (await storage.examples.add(again)).status is status
        assert await texts(storage) == []
        assert (await storage.examples.add(replace(again, by_manager=True, bot="me."))).status is (
            ReviewStatus.APPROVED
        )

    @pytest.mark.parametrize("user", SAME_QUESTION)
    async def test_a_new_answer_to_what_others_taught_waits(
        self, storage: Storage, user: str
    ) -> None:
        await taught(storage, "Who is it?", "Ada.")
        new = NewExample(GUILD, user, "Ben.", BEN, "teach")
        assert (await storage.examples.add(new)).status is ReviewStatus.WAITING
        by_manager = await storage.examples.add(replace(new, bot="Bo.", by_manager=True))
        assert by_manager.status is ReviewStatus.APPROVED
        allowed = await storage.examples.add(replace(new, bot="Bea.", may_replace=True))
        assert allowed.status is ReviewStatus.APPROVED
        assert await storage.examples.has_newer_answer(by_manager)
        assert not await storage.examples.has_newer_answer(allowed)

    @pytest.mark.parametrize("user", ["Who is it not?", "Who is C++", "Who is C#", "Who is that?"])
    async def test_another_question_does_not_wait(self, storage: Storage, user: str) -> None:
        for known in ("Who is it?", "Who is C?"):
            await taught(storage, known, "Ada.")
        new = await storage.examples.add(NewExample(GUILD, user, "Ben.", BEN, "teach"))
        assert new.status is ReviewStatus.APPROVED

    async def test_nobodys_waiting_answer_holds_up_another(self, storage: Storage) -> None:
        waits = NewExample(GUILD, "Who?", "X", BEN, "better", status=ReviewStatus.WAITING)
        await storage.examples.add(waits)
        assert (await taught(storage, "Who?", "Ada.")).status is ReviewStatus.APPROVED

    async def test_ones_own_answer_is_corrected_at_once(self, storage: Storage) -> None:
        for bot in ("Ada.", "Ben."):
            assert (await taught(storage, "Who?", bot)).status is ReviewStatus.APPROVED
        others = NewExample(OTHER, "Who?", "Cleo.", CLEO, "teach")
        assert (await storage.examples.add(others)).status is ReviewStatus.APPROVED

    async def test_ones_own_earlier_answer_becomes_the_newest_and_stays_as_it_was(
        self, storage: Storage
    ) -> None:
        first = await taught(storage, "Who?", "Ada.", weight=2, reply_id=100, corrects=True)
        later = await taught(storage, "Who?", "Ben.")
        again = NewExample(GUILD, "Who?", "Ada.", ADA, "teach")
        newest = await storage.examples.make_newest(again)
        assert newest is not None
        assert newest.id > later.id
        assert newest == replace(first, id=newest.id, created_at=newest.created_at)
        assert await storage.examples.all(GUILD) == [later, newest]
        await storage.examples.add(NewExample(GUILD, "Who?", "Bo.", BEN, "teach", by_manager=True))
        for author in (ADA, BEN):
            assert await storage.examples.make_newest(replace(again, author_id=author)) is None
        await storage.examples.add(replace(again, author_id=BEN))
        assert await storage.examples.make_newest(replace(again, may_replace=True)) is None
        assert (await storage.examples.all(GUILD))[1] == newest

    async def test_a_manager_makes_what_others_also_taught_the_newest(
        self, storage: Storage
    ) -> None:
        """It keeps its author and its sources, and the next example is newer still."""
        first = await taught(storage, "Who?", "Ada.")
        await storage.examples.add(NewExample(GUILD, "Who?", "Ada.", BEN, "teach"))
        later = await taught(storage, "Who?", "Bo.")
        manager = NewExample(GUILD, "Who?", "Ada.", CLEO, "teach", by_manager=True)
        await storage.examples.add(manager)
        newest = await storage.examples.make_newest(manager)
        assert newest is not None
        assert newest == replace(first, id=later.id + 1, created_at=newest.created_at)
        assert not await storage.examples.has_newer_answer(newest)
        assert await storage.examples.other_teachers([newest.id]) == [BEN, CLEO]
        assert (await taught(storage, "What?", "That.")).id == newest.id + 1

    async def test_who_taught_it_is_known(self, storage: Storage) -> None:
        await taught(storage)
        await storage.examples.add(NewExample(GUILD, "a", "b", BEN, "teach"))
        for who, user, known in ((ADA, "a", True), (BEN, "a", True), (CLEO, "a", False)):
            assert await storage.examples.is_taught_by(GUILD, who, user, "b") == known
        assert not await storage.examples.is_taught_by(GUILD, ADA, "a", "c")


class TestConsent:
    async def test_nothing_is_collected_without_it(self, storage: Storage) -> None:
        with pytest.raises(NoConsent, match="did not agree"):
            await collected(storage)
        await storage.consents.opt_in(OTHER, BEN, 1)
        with pytest.raises(NoConsent):
            await collected(storage)
        with pytest.raises(NoConsent):  # a better answer to a question of somebody else
            await taught(storage, asked_by=BEN)
        assert await storage.examples.count(GUILD) == 0

    async def test_it_must_stand_when_it_is_learned(self, storage: Storage) -> None:
        await storage.consents.opt_in(GUILD, BEN, 1)
        first = await collected(storage)
        await taught(storage, "who?", "me", asked_by=BEN)
        await taught(storage)
        assert await texts(storage) == ["hello", "who?", "a"]
        assert await storage.consents.opt_out(GUILD, BEN)
        assert await texts(storage) == ["a"]
        await storage.consents.opt_in(GUILD, BEN, 2)
        again = await storage.examples.trainable(GUILD)
        assert [one.consent_version for one in again] == [2, 2, None]
        assert again[0] == replace(first, consent_version=2)

    async def test_own_words_that_are_taught_need_none(self, storage: Storage) -> None:
        await taught(storage, asked_by=ADA)
        assert await texts(storage) == ["a"]

    async def test_collected_words_of_the_author_need_theirs(self, storage: Storage) -> None:
        with pytest.raises(NoConsent):
            await taught(storage, consent_version=1)


class TestLearnable:
    async def test_only_what_is_approved(self, storage: Storage) -> None:
        for number, status in enumerate(ReviewStatus):
            await taught(storage, str(number), status=status)
        assert await texts(storage) == ["1"]

    async def test_a_large_data_set_is_paged_through(self, storage: Storage) -> None:
        examples, count = storage.examples, 2 * PAGE_EXAMPLES + 1
        await examples.add_pairs(GUILD, [Pair(f"{n}", "b") for n in range(count)], ADA, "x")
        await examples.add_pairs(OTHER, [Pair("elsewhere", "b")], ADA, "x")
        for rejected in (2, PAGE_EXAMPLES, PAGE_EXAMPLES + 1):
            await examples.set_review(GUILD, rejected, ReviewStatus.REJECTED)
        pages = [page async for page in examples.trainable_pages(GUILD)]
        assert [len(page) for page in pages] == [PAGE_EXAMPLES, PAGE_EXAMPLES - 2]
        assert [one for page in pages for one in page] == await examples.trainable(GUILD)
        assert await examples.count_trainable(GUILD) == count - 3

    async def test_votes_keep_out_or_add_weight(self, storage: Storage) -> None:
        one = await taught(storage, reply_id=100)
        for user, value in ((1, -1), (2, 1), (3, -1)):
            await storage.replies.rate(GUILD, 100, user, value)
        assert await storage.examples.trainable(GUILD) == []
        await storage.replies.rate(GUILD, 100, 1, 0)
        assert await storage.examples.trainable(GUILD) == [one]
        for user in range(10, 20):
            await storage.replies.rate(GUILD, 100, user, 1)
        assert await storage.examples.trainable(GUILD) == [replace(one, weight=3)]

    async def test_votes_never_lessen_a_weight(self, storage: Storage) -> None:
        await taught(storage, reply_id=100, weight=5)
        await storage.replies.rate(GUILD, 100, 1, 1)
        assert [one.weight for one in await storage.examples.trainable(GUILD)] == [5]

    async def test_dislikes_of_a_reply_do_not_hit_the_better_answer(self, storage: Storage) -> None:
        one = await taught(storage, reply_id=100, corrects=True)
        await storage.replies.rate(GUILD, 100, 1, -1)
        assert await storage.examples.trainable(GUILD) == [one]

    async def test_an_edited_answer_is_not_the_one_that_was_rated(self, storage: Storage) -> None:
        one = await taught(storage, reply_id=100)
        await storage.replies.rate(GUILD, 100, 1, -1)
        edited = await storage.examples.edit(GUILD, one.id, "a", "better")
        assert edited == replace(one, bot="better", corrects=True)
        assert await storage.examples.trainable(GUILD) == [edited]

    async def test_other_servers_learn_nothing_of_it(self, storage: Storage) -> None:
        await taught(storage)
        assert await storage.examples.trainable(OTHER) == []


class TestWhatIsDeletedOrEdited:
    async def spoken(self, storage: Storage) -> None:
        await storage.consents.opt_in(GUILD, BEN, 1)
        await storage.messages.add(said(99, "hello", BEN))
        await storage.replies.add(made(100, 99, BEN))
        await storage.messages.add(said(100, "hi", BOT))
        await collected(storage)
        await taught(storage, "on purpose", reply_id=100)

    @pytest.mark.parametrize("deleted", [99, 100])
    async def test_what_was_collected_goes_with_its_message(
        self, storage: Storage, deleted: int
    ) -> None:
        await self.spoken(storage)
        assert await storage.messages.delete([deleted, 404]) == 1
        assert await texts(storage) == ["on purpose"]

    async def test_what_was_collected_goes_when_its_message_says_else(
        self, storage: Storage
    ) -> None:
        await self.spoken(storage)
        await storage.messages.edit(99, "hello")  # a preview of a link appeared
        assert await texts(storage) == ["hello", "on purpose"]
        await storage.messages.edit(99, "something else")
        assert await texts(storage) == ["on purpose"]


class TestFiles:
    async def test_pairs_are_added_in_order_and_counted_once(self, storage: Storage) -> None:
        await taught(storage, "1", "one")
        pairs = [
            Pair("1", "one"),
            Pair("2", "zwei 🙂\n\t\x01", "talk", 1, "faq.csv"),
            Pair("2", "zwei 🙂\n\t\x01", "talk", 2),
            Pair("2", "zwei 🙂\n\t\x01", "talk", 2),
        ]
        assert await storage.examples.add_pairs(GUILD, pairs, BEN, "import") == 2
        assert await storage.examples.add_pairs(GUILD, pairs, BEN, "import") == 0
        [_, second, third] = await storage.examples.all(GUILD)
        assert (second.user, second.bot) == ("2", "zwei 🙂\n\t\x01")
        assert (second.conversation, second.turn, second.source) == ("talk", 1, "faq.csv")
        assert (third.turn, third.source, third.author_id) == (2, "import", BEN)
        assert await storage.examples.add_pairs(OTHER, [], BEN, "import") == 0

    async def test_what_json_cannot_hold_becomes_marks(self, storage: Storage) -> None:
        assert (
            await storage.examples.add_pairs(GUILD, [Pair("a\0b", "c\ud800d")], BEN, "import") == 1
        )
        [one] = await storage.examples.all(GUILD)
        assert (one.user, one.bot) == ("a\ufffdb", "c?d")

    async def test_all_or_nothing(self, storage: Storage) -> None:
        pairs = [Pair(str(n), "x" * 1000) for n in range(1000)]
        await storage._db.execute("PRAGMA max_page_count = 60")
        with pytest.raises(StoreError, match="disk is full"):
            await storage.examples.add_pairs(GUILD, pairs, BEN, "import")
        assert await storage.examples.count(GUILD) == 0
        await taught(storage)

    async def test_many_pairs_come_whole(self, storage: Storage) -> None:
        pairs = [Pair(f"question {n}", f"answer {n}") for n in range(1234)]
        assert await storage.examples.add_pairs(GUILD, pairs, BEN, "import") == len(pairs)
        back = await storage.examples.all(GUILD)
        assert [(one.user, one.bot) for one in back] == [(one.user, one.bot) for one in pairs]

    async def test_a_source_is_taken_out_as_one(self, storage: Storage) -> None:
        pairs = [Pair(str(n), "b") for n in range(2500)]
        await storage.examples.add_pairs(GUILD, pairs, BEN, "faq.csv")
        await storage.examples.add_pairs(OTHER, pairs[:2], BEN, "faq.csv")
        kept = await taught(storage)
        assert await storage.examples.remove_source(GUILD, "faq.csv") == 2500
        assert await storage.examples.remove_source(GUILD, "faq.csv") == 0
        assert await storage.examples.all(GUILD) == [kept]
        assert await storage.examples.count(OTHER) == 2

    async def test_what_another_source_has_as_well_stays(self, storage: Storage) -> None:
        await storage.examples.add_pairs(GUILD, [Pair("a", "b"), Pair("c", "d")], BEN, "import")
        first, _ = await storage.examples.all(GUILD)
        for author, source in ((CLEO, "import"), (ADA, "teach"), (BOT, "better answer")):
            await storage.examples.add(NewExample(GUILD, "a", "b", author, source))
        assert await storage.examples.remove_source(GUILD, "import") == 1
        left = replace(first, author_id=ADA, source="teach")
        assert await storage.examples.all(GUILD) == [left]
        assert await storage.examples.other_teachers([first.id]) == [BOT]

    async def test_a_source_that_was_taken_out_does_not_come_back(self, storage: Storage) -> None:
        for scope in (GUILD, OTHER):
            one = await storage.examples.add(NewExample(scope, "a", "b", ADA, "teach"))
            await storage.examples.add_pairs(scope, [Pair("a", "b")], BEN, "faq.csv")
        assert await storage.examples.remove_source(GUILD, "faq.csv") == 0
        await erase_member(storage, ADA)
        assert await storage.examples.all(GUILD) == []
        assert [left.id for left in await storage.examples.all(OTHER)] == [one.id]


class TestReview:
    async def test_states_are_set_counted_and_paged(self, storage: Storage) -> None:
        added = [await taught(storage, str(n), status=ReviewStatus.WAITING) for n in range(5)]
        await storage.examples.add_pairs(GUILD, [Pair("x", "y")], BEN, "faq.csv")
        assert await storage.examples.set_review(GUILD, added[1].id, ReviewStatus.REJECTED)
        assert not await storage.examples.set_review(OTHER, added[0].id, ReviewStatus.REJECTED)
        assert await storage.examples.count_by_status_and_source(GUILD) == {
            (ReviewStatus.APPROVED, "faq.csv"): 1,
            (ReviewStatus.REJECTED, "teach"): 1,
            (ReviewStatus.WAITING, "teach"): 4,
        }
        page = await storage.examples.page(GUILD, ReviewStatus.WAITING, 0, 2)
        assert [one.user for one in page] == ["0", "2"]
        page = await storage.examples.page(GUILD, ReviewStatus.WAITING, page[-1].id, 2)
        assert [one.user for one in page] == ["3", "4"]
        assert await storage.examples.page(GUILD, ReviewStatus.WAITING, page[-1].id, 2) == []
        assert len(await storage.examples.page(GUILD, None, 0, 100)) == 6
        assert len(await storage.examples.all(GUILD, ReviewStatus.WAITING)) == 4
        assert await storage.examples.page(OTHER, None, 0, 100) == []

    async def test_an_edit_must_not_make_two_of_one(self, storage: Storage) -> None:
        one, other = await taught(storage), await taught(storage, "c", "d")
        with pytest.raises(StoreError, match="already has this pair"):
            await storage.examples.edit(GUILD, other.id, "a", "b")
        assert await storage.examples.edit(GUILD, other.id, "c", "d") == other
        assert await storage.examples.edit(GUILD, 404, "c", "d") is None
        assert await storage.examples.edit(OTHER, one.id, "c", "e") is None

    async def test_many_review_at_once(self, storage: Storage) -> None:
        added = [await taught(storage, str(n), status=ReviewStatus.WAITING) for n in range(20)]
        await asyncio.gather(
            *(storage.examples.set_review(GUILD, one.id, ReviewStatus.APPROVED) for one in added)
        )
        assert len(await storage.examples.trainable(GUILD)) == 20


async def test_an_answer_of_cleo_to_ben_is_learned_by_consent_of_ben_only(storage: Storage) -> None:
    await storage.consents.opt_in(GUILD, CLEO, 1)
    with pytest.raises(NoConsent):
        await storage.examples.add(NewExample(GUILD, "a", "b", CLEO, "better answer", asked_by=BEN))
    await storage.consents.opt_in(GUILD, BEN, 1)
    await storage.consents.opt_out(GUILD, CLEO)
    await storage.examples.add(NewExample(GUILD, "a", "b", CLEO, "better answer", asked_by=BEN))
    assert await texts(storage) == ["a"]


async def test_of_the_pairs_of_a_file_some_are_known(storage: Storage) -> None:
    pairs = [Pair("a", "b"), Pair("a", "b", "talk", 1), Pair("c\0", "d")]
    assert await storage.examples.count_existing_pairs(GUILD, pairs) == 0
    await storage.examples.add_pairs(GUILD, pairs[1:], ADA, "import")
    assert await storage.examples.count_existing_pairs(GUILD, pairs) == 2
    assert (
        await storage.examples.count_existing_pairs(OTHER, pairs)
        == await storage.examples.count_existing_pairs(GUILD, [])
        == 0
    )
    assert await storage.examples.add_pairs(GUILD, pairs, ADA, "import") == 1
