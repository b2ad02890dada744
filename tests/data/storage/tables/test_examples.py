"""The data set: what is added, looked after, and what of it may be learned."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from core.errors import NoConsent, StoreError
from core.records import Example, Pair, ReviewStatus
from data.storage.store import Store
from tests.data.storage.records import ADA, BEN, BOT, CLEO, GUILD, OTHER, made, said


async def taught(store: Store, user: str = "a", bot: str = "b", **more: object) -> Example:
    return await store.add_example(GUILD, user, bot, ADA, "teach", **more)  # type: ignore[arg-type]


async def collected(store: Store, user: str = "hello", bot: str = "hi", by: int = BEN) -> Example:
    return await store.add_example(
        GUILD, user, bot, BOT, "liked", asked_by=by, reply_id=100, consent_version=1
    )


async def texts(store: Store) -> list[str]:
    return [one.user for one in await store.trainable_examples(GUILD)]


async def test_every_field_comes_back(store: Store) -> None:
    await store.opt_in(GUILD, BEN, 4)
    added = await taught(
        store,
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
    assert await store.examples(GUILD) == [added]
    assert await store.example(GUILD, added.id) == added
    assert await store.example(OTHER, added.id) is None


async def test_of_the_same_pair_the_higher_weight_and_an_approval_win(store: Store) -> None:
    first = await taught(store, status=ReviewStatus.WAITING, weight=2)
    again = await taught(store, status=ReviewStatus.APPROVED, weight=1)
    assert again == replace(first, status=ReviewStatus.APPROVED)
    assert await taught(store, status=ReviewStatus.WAITING, weight=3) == replace(again, weight=3)


async def test_what_is_handed_over_on_purpose_wins_over_what_was_collected(store: Store) -> None:
    await store.opt_in(GUILD, BEN, 1)
    first = await collected(store, "a", "b")
    on_purpose = await taught(store)
    assert on_purpose == replace(
        first, author_id=ADA, source="teach", asked_by=None, reply_id=None, consent_version=None
    )
    assert await collected(store, "a", "b") == on_purpose


class TestConsent:
    async def test_nothing_is_collected_without_it(self, store: Store) -> None:
        with pytest.raises(NoConsent, match="did not agree"):
            await collected(store)
        await store.opt_in(OTHER, BEN, 1)
        with pytest.raises(NoConsent):
            await collected(store)
        with pytest.raises(NoConsent):  # a better answer to a question of somebody else
            await taught(store, asked_by=BEN)
        assert await store.count_examples(GUILD) == 0

    async def test_it_must_stand_when_it_is_learned(self, store: Store) -> None:
        await store.opt_in(GUILD, BEN, 1)
        first = await collected(store)
        await taught(store, "who?", "me", asked_by=BEN)
        await taught(store)
        assert await texts(store) == ["hello", "who?", "a"]
        assert await store.opt_out(GUILD, BEN)
        assert await texts(store) == ["a"]
        await store.opt_in(GUILD, BEN, 2)
        again = await store.trainable_examples(GUILD)
        assert [one.consent_version for one in again] == [2, 2, None]
        assert again[0] == replace(first, consent_version=2)

    async def test_own_words_that_are_taught_need_none(self, store: Store) -> None:
        await taught(store, asked_by=ADA)
        assert await texts(store) == ["a"]

    async def test_collected_words_of_the_author_need_theirs(self, store: Store) -> None:
        with pytest.raises(NoConsent):
            await taught(store, consent_version=1)


class TestLearnable:
    async def test_only_what_is_approved(self, store: Store) -> None:
        for number, status in enumerate(ReviewStatus):
            await taught(store, str(number), status=status)
        assert await texts(store) == ["1"]

    async def test_votes_keep_out_or_add_weight(self, store: Store) -> None:
        one = await taught(store, reply_id=100)
        for user, value in ((1, -1), (2, 1), (3, -1)):
            await store.rate(GUILD, 100, user, value)
        assert await store.trainable_examples(GUILD) == []
        await store.rate(GUILD, 100, 1, 0)
        assert await store.trainable_examples(GUILD) == [one]
        for user in range(10, 20):
            await store.rate(GUILD, 100, user, 1)
        assert await store.trainable_examples(GUILD) == [replace(one, weight=3)]

    async def test_votes_never_lessen_a_weight(self, store: Store) -> None:
        await taught(store, reply_id=100, weight=5)
        await store.rate(GUILD, 100, 1, 1)
        assert [one.weight for one in await store.trainable_examples(GUILD)] == [5]

    async def test_dislikes_of_a_reply_do_not_hit_the_better_answer(self, store: Store) -> None:
        one = await taught(store, reply_id=100, corrects=True)
        await store.rate(GUILD, 100, 1, -1)
        assert await store.trainable_examples(GUILD) == [one]

    async def test_an_edited_answer_is_not_the_one_that_was_rated(self, store: Store) -> None:
        one = await taught(store, reply_id=100)
        await store.rate(GUILD, 100, 1, -1)
        edited = await store.edit_example(GUILD, one.id, "a", "better")
        assert edited == replace(one, bot="better", corrects=True)
        assert await store.trainable_examples(GUILD) == [edited]

    async def test_other_servers_learn_nothing_of_it(self, store: Store) -> None:
        await taught(store)
        assert await store.trainable_examples(OTHER) == []


class TestWhatIsDeletedOrEdited:
    async def spoken(self, store: Store) -> None:
        await store.opt_in(GUILD, BEN, 1)
        await store.add_message(said(99, "hello", BEN))
        await store.add_reply(made(100, 99, BEN))
        await store.add_message(said(100, "hi", BOT))
        await collected(store)
        await taught(store, "on purpose", reply_id=100)

    @pytest.mark.parametrize("deleted", [99, 100])
    async def test_what_was_collected_goes_with_its_message(
        self, store: Store, deleted: int
    ) -> None:
        await self.spoken(store)
        assert await store.delete_messages([deleted, 404]) == 1
        assert await texts(store) == ["on purpose"]

    async def test_what_was_collected_goes_when_its_message_says_else(self, store: Store) -> None:
        await self.spoken(store)
        await store.edit_message(99, "hello")  # a preview of a link appeared
        assert await texts(store) == ["hello", "on purpose"]
        await store.edit_message(99, "something else")
        assert await texts(store) == ["on purpose"]


class TestFiles:
    async def test_pairs_are_added_in_order_and_counted_once(self, store: Store) -> None:
        await taught(store, "1", "one")
        pairs = [
            Pair("1", "one"),
            Pair("2", "zwei 🙂\n\t\x01", "talk", 1, "faq.csv"),
            Pair("2", "zwei 🙂\n\t\x01", "talk", 2),
            Pair("2", "zwei 🙂\n\t\x01", "talk", 2),
        ]
        assert await store.add_pairs(GUILD, pairs, BEN, "import") == 2
        assert await store.add_pairs(GUILD, pairs, BEN, "import") == 0
        [_, second, third] = await store.examples(GUILD)
        assert (second.user, second.bot) == ("2", "zwei 🙂\n\t\x01")
        assert (second.conversation, second.turn, second.source) == ("talk", 1, "faq.csv")
        assert (third.turn, third.source, third.author_id) == (2, "import", BEN)
        assert await store.add_pairs(OTHER, [], BEN, "import") == 0

    async def test_what_json_cannot_hold_becomes_marks(self, store: Store) -> None:
        assert await store.add_pairs(GUILD, [Pair("a\0b", "c\ud800d")], BEN, "import") == 1
        [one] = await store.examples(GUILD)
        assert (one.user, one.bot) == ("a\ufffdb", "c?d")

    async def test_all_or_nothing(self, store: Store) -> None:
        pairs = [Pair(str(n), "x" * 1000) for n in range(1000)]
        await store._db.execute("PRAGMA max_page_count = 60")
        with pytest.raises(StoreError, match="disk is full"):
            await store.add_pairs(GUILD, pairs, BEN, "import")
        assert await store.count_examples(GUILD) == 0
        await taught(store)

    async def test_many_pairs_come_whole(self, store: Store) -> None:
        pairs = [Pair(f"question {n}", f"answer {n}") for n in range(1234)]
        assert await store.add_pairs(GUILD, pairs, BEN, "import") == len(pairs)
        back = await store.examples(GUILD)
        assert [(one.user, one.bot) for one in back] == [(one.user, one.bot) for one in pairs]

    async def test_a_source_is_taken_out_as_one(self, store: Store) -> None:
        pairs = [Pair(str(n), "b") for n in range(2500)]
        await store.add_pairs(GUILD, pairs, BEN, "faq.csv")
        await store.add_pairs(OTHER, pairs[:2], BEN, "faq.csv")
        kept = await taught(store)
        assert await store.remove_examples_of_source(GUILD, "faq.csv") == 2500
        assert await store.remove_examples_of_source(GUILD, "faq.csv") == 0
        assert await store.examples(GUILD) == [kept]
        assert await store.count_examples(OTHER) == 2


class TestReview:
    async def test_states_are_set_counted_and_paged(self, store: Store) -> None:
        added = [await taught(store, str(n), status=ReviewStatus.WAITING) for n in range(5)]
        await store.add_pairs(GUILD, [Pair("x", "y")], BEN, "faq.csv")
        assert await store.set_review(GUILD, added[1].id, ReviewStatus.REJECTED)
        assert not await store.set_review(OTHER, added[0].id, ReviewStatus.REJECTED)
        assert await store.count_by_status_and_source(GUILD) == {
            (ReviewStatus.APPROVED, "faq.csv"): 1,
            (ReviewStatus.REJECTED, "teach"): 1,
            (ReviewStatus.WAITING, "teach"): 4,
        }
        page = await store.examples_page(GUILD, ReviewStatus.WAITING, 0, 2)
        assert [one.user for one in page] == ["0", "2"]
        page = await store.examples_page(GUILD, ReviewStatus.WAITING, page[-1].id, 2)
        assert [one.user for one in page] == ["3", "4"]
        assert await store.examples_page(GUILD, ReviewStatus.WAITING, page[-1].id, 2) == []
        assert len(await store.examples_page(GUILD, None, 0, 100)) == 6
        assert len(await store.examples(GUILD, ReviewStatus.WAITING)) == 4
        assert await store.examples_page(OTHER, None, 0, 100) == []

    async def test_an_edit_must_not_make_two_of_one(self, store: Store) -> None:
        one, other = await taught(store), await taught(store, "c", "d")
        with pytest.raises(StoreError, match="has this very pair already"):
            await store.edit_example(GUILD, other.id, "a", "b")
        assert await store.edit_example(GUILD, other.id, "c", "d") == other
        assert await store.edit_example(GUILD, 404, "c", "d") is None
        assert await store.edit_example(OTHER, one.id, "c", "e") is None

    async def test_many_review_at_once(self, store: Store) -> None:
        added = [await taught(store, str(n), status=ReviewStatus.WAITING) for n in range(20)]
        await asyncio.gather(
            *(store.set_review(GUILD, one.id, ReviewStatus.APPROVED) for one in added)
        )
        assert len(await store.trainable_examples(GUILD)) == 20


async def test_an_answer_of_cleo_to_ben_is_learned_by_consent_of_ben_only(store: Store) -> None:
    await store.opt_in(GUILD, CLEO, 1)
    with pytest.raises(NoConsent):
        await store.add_example(GUILD, "a", "b", CLEO, "better answer", asked_by=BEN)
    await store.opt_in(GUILD, BEN, 1)
    await store.opt_out(GUILD, CLEO)
    await store.add_example(GUILD, "a", "b", CLEO, "better answer", asked_by=BEN)
    assert await texts(store) == ["a"]


async def test_of_the_pairs_of_a_file_some_are_known(store: Store) -> None:
    pairs = [Pair("a", "b"), Pair("a", "b", "talk", 1), Pair("c\0", "d")]
    assert await store.count_existing_pairs(GUILD, pairs) == 0
    await store.add_pairs(GUILD, pairs[1:], ADA, "import")
    assert await store.count_existing_pairs(GUILD, pairs) == 2
    assert (
        await store.count_existing_pairs(OTHER, pairs)
        == await store.count_existing_pairs(GUILD, [])
        == 0
    )
    assert await store.add_pairs(GUILD, pairs, ADA, "import") == 1
