"""What the pages show, and the review on them."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.chat.model_router import Trial
from bot.web import access
from bot.web.words import WORDS
from core.records import (
    Choice,
    DuelOutcome,
    DuelPair,
    GoldenKind,
    GoldenQuestion,
    GoldenScore,
    JobState,
    NewExample,
    ReviewStatus,
)
from data.storage.tables.growth import NEWEST, Search
from i18n.catalogue import JAPANESE
from tests.bot.asking import storage_of
from tests.bot.conftest import World
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.bot.web.browser import Answer, Browser, sign_in
from tests.data.storage.records import said
from training.checkpoints import HISTORY_FILE
from training.jobs.events import Step
from training.jobs.queue import JobUpdate

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{7*7}}&amp;"
"""What would run, if a page took it for markup."""
REPORT = {
    "answers": [{"prompt": "Who are you?", "before": "Hm.", "after": "A small bot."}],
    "losses": {
        "general": {"base": 3.81, "serving": None, "new": 3.82},
        "own": {"base": 4.2, "serving": None, "new": 0.31},
    },
    "summary": "12 of 12 are known.",
    "failures": [{"prompt": "And you?", "reply": "", "wrong": "empty"}],
    "refusal": None,
}


async def teach(world: World, user: str, bot: str, **more: Any) -> int:
    facts = {"author_id": world.ben.id, "source": "teach"} | more
    new = NewExample(world.guild.id, user, bot, **facts)
    return (await storage_of(world).examples.add(new)).id


async def train(world: World, name: str = "tiny-1", **more: Any) -> int:
    """A training that ended well; the number of its job."""
    folder = make_checkpoint(world, name, report=REPORT | more, base_name="tiny", examples=3)
    log = [{"step": n, "loss": 4.0 / n} for n in range(1, 301)]
    (folder / HISTORY_FILE).write_text(json.dumps({"log": log}))
    storage = storage_of(world)
    job = await storage.jobs.add(
        scope=world.guild.id,
        requested_by=world.ada.id,
        channel_id=1,
        base_model="tiny",
        directory=str(world.home / "jobs" / "1"),
    )
    await storage.jobs.set_state(job.id, JobState.PROMOTED, checkpoint=name, detail="It is done.")
    await storage.model_choices.set_active(world.guild.id, name)
    return job.id


def home(world: World) -> str:
    return f"/s/{world.guild.id}"


# --- what is shown -------------------------------------------------------------------------------


async def test_the_timeline(site: World, browser: Browser) -> None:
    for number in range(5):
        await teach(site, f"question {number}", f"answer {number}")
    await train(site)
    page = await sign_in(site, browser, site.ada)
    assert "ben taught 5 things (teach)" in page.text
    assert "answer 4" in page.text
    assert "answer 1" not in page.text, "only the newest of a group"
    assert "Training: tiny-1 learned" in page.text
    assert "5 examples, taught on " in page.text
    assert "Answers now tiny-1" in page.text


async def test_days_are_paged(site: World, browser: Browser) -> None:
    storage = storage_of(site)
    for day in range(1, 13):
        number = await teach(site, f"on day {day}", "x")
        at = datetime(2026, 3, day, 12, tzinfo=UTC).isoformat()
        await storage._execute("UPDATE examples SET created_at = ? WHERE id = ?", at, number)
    page = await sign_in(site, browser, site.ada)
    seen: list[str] = []
    while True:
        days = [one for name, tag in page.tags if (one := tag.get("id", "")).startswith("day-")]
        seen += days
        older = [tag["href"] for name, tag in page.tags if tag.get("rel") == "next"]
        if not older:
            break
        page = await browser.get(home(site) + older[0])
    assert seen == [f"day-2026-03-{day:02d}" for day in range(12, 0, -1)]
    [newer] = [tag["href"] for name, tag in page.tags if tag.get("rel") == "prev"]
    assert newer == "?until=2026-03-07"


async def test_a_training_with_its_curve_and_what_it_changed(site: World, browser: Browser) -> None:
    job = await train(site)
    await sign_in(site, browser, site.ada)
    assert "tiny-1 learned" in (await browser.get(f"{home(site)}/trainings")).text
    page = await browser.get(f"{home(site)}/trainings/{job}")
    rows = [tag for name, tag in page.tags if "data-y" in tag]
    assert 100 < len(rows) <= 160
    assert (rows[-1]["data-x"], rows[0]["data-x"]) == ("300", "2")
    for text in ("It is done.", "The loss went from 3.00 to", "0.31", "Hm.", "A small bot.", "ada"):
        assert text in page.text
    assert "12 of 12 are known." in page.text
    assert "Golden questions" not in page.text
    golden = storage_of(site).golden
    for number, good in ((1, 5), (2, 2)):
        new = GoldenQuestion(0, site.guild.id, f"{number}?", GoldenKind.CONTAIN, "x", 3)
        assert await golden.add(new) is not None
        score = GoldenScore(number, "tiny-1", good, 5, 3, datetime.now(UTC))
        await golden.record(site.guild.id, [score])
    page = await browser.get(f"{home(site)}/trainings/{job}")
    assert "1? should contain “x” good: 5 of 5, amid talk 5 passed" in page.text
    assert "2? should contain “x” good: 2 of 5, amid talk 5 did not pass" in page.text
    listed = await browser.get(f"{home(site)}/checkpoints")
    assert "tiny-1 answers now" in listed.text
    assert "1/2" in listed.text
    assert "Duels" not in listed.text


async def test_duels_and_a_trial_stand_beside_the_checkpoints(
    site: World, browser: Browser
) -> None:
    await train(site)
    make_checkpoint(site, "tiny-2")
    storage, guild = storage_of(site), site.guild.id
    for scope, model in ((guild, "tiny-1"), (guild + 1, "theirs")):
        duel = await storage.duels.start(scope, (model, "tiny-2"), 20, frozenset(), 1)
        assert duel is not None
        await vote(site, duel.id, Choice.A, Choice.A, Choice.ALIKE)
        await storage.duels.end(duel.id, DuelOutcome.A)
    await storage.duels.start(guild, ("tiny", EVIL), 20, frozenset(), 1)
    site.bot.get_cog("Models")._models.set_trial(guild, Trial("tiny-2", 50))
    await sign_in(site, browser, site.ada)
    listed = await browser.get(f"{home(site)}/checkpoints")
    assert "tiny-2 on trial" in listed.text
    assert "tiny-1 2 · tiny-2 0 · alike 1" in listed.text
    assert "tiny-1 gives the better answers. Nothing was changed by it." in listed.text
    assert listed.text.index("It is running") < listed.text.index("gives the better answers")
    assert EVIL in listed.text
    assert "theirs" not in listed.text


async def vote(world: World, duel_id: int, *choices: Choice) -> None:
    """Votes of as many members, each on a reply of its own."""
    storage = storage_of(world)
    for number, choice in enumerate(choices, duel_id * 100):
        await storage.messages.add(said(number, "an answer"))
        await storage.duels.add_pair(DuelPair(number, duel_id, a_first=True, other=None))
        assert await storage.duels.vote(number, number, choice)


async def test_a_training_under_way_is_followed(site: World, browser: Browser) -> None:
    storage = storage_of(site)
    job = await storage.jobs.add(
        scope=site.guild.id, requested_by=1, channel_id=1, base_model="tiny", directory="nowhere"
    )
    growth = site.bot.get_cog("GrowthCommand")._growth
    for step in (*range(1, 7), 5, 6):  # it began again from step 4
        growth.follow(JobUpdate(job, Step(step, 10, 0.1, 5.0 - step, 100.0, 3.0)))
    await sign_in(site, browser, site.ada)
    page = await browser.get(f"{home(site)}/trainings/{job.id}")
    points = [(tag["data-x"], tag["data-y"]) for name, tag in page.tags if "data-y" in tag]
    assert points == [(str(n), str(5.0 - n)) for n in range(1, 7)]
    assert ("div", "every 5s") in [(name, tag.get("hx-trigger")) for name, tag in page.tags]


async def test_files_that_are_damaged_cost_their_curve_only(site: World, browser: Browser) -> None:
    job = await train(site)
    folder = site.home / "checkpoints" / str(site.guild.id) / "tiny-1"
    await sign_in(site, browser, site.ada)
    for content in (
        "{",
        "[]",
        '{"log": 3}',
        '{"log": [{"step": "x"}, 7, {"step": 1, "loss": NaN}]}',
    ):
        (folder / HISTORY_FILE).write_text(content)
        page = await browser.get(f"{home(site)}/trainings/{job}")
        assert page.status == 200
        assert "There is no curve" in page.text
    (folder / "manifest.json").write_text("{")
    assert (await browser.get(f"{home(site)}/trainings/{job}")).status == 200
    assert "There is no checkpoint" in (await browser.get(f"{home(site)}/checkpoints")).text


@pytest.mark.parametrize(
    "query",
    [
        *("until=x", "until=9999-99-99", "until=-1", "after=-5", "before=x", f"before={'9' * 40}"),
        *("author=x&status=y", "q=%00%ff%F0%9F", f"q={'x' * 3000}", "status=waiting&status=y"),
    ],
)
async def test_strange_queries_are_pages_too(site: World, browser: Browser, query: str) -> None:
    await teach(site, "question", "answer")
    await sign_in(site, browser, site.ada)
    for path in ("", "/data", "/trainings"):
        assert (await browser.get(f"{home(site)}{path}?{query}")).status == 200


# --- the data set --------------------------------------------------------------------------------


def numbers(page: Answer) -> list[int]:
    """The examples in the table."""
    links = [tag.get("href", "").rpartition("/data/")[2] for name, tag in page.tags if name == "a"]
    return [int(one) for one in dict.fromkeys(links) if one.isdigit()]


async def test_search_takes_signs_as_they_are(site: World, browser: Browser) -> None:
    texts = [
        "100 % sure",
        "100 times",
        "snake_case",
        "snakeXcase",
        "back\\slash",
        "Größe",
        "日本語の質問",
    ]
    ids = {text: await teach(site, text, "x") for text in texts}
    await sign_in(site, browser, site.ada)
    for part, found in {
        "100 %": ["100 % sure"],
        "snake_": ["snake_case"],
        "\\": ["back\\slash"],
        "SNAKE": ["snakeXcase", "snake_case"],
        "日本": ["日本語の質問"],
        "nowhere": [],
    }.items():
        page = await browser.get(f"{home(site)}/data?q=" + part.replace("%", "%25"))
        assert numbers(page) == [ids[text] for text in found], part


async def test_an_empty_data_set_says_how_to_begin(site: World, browser: Browser) -> None:
    await sign_in(site, browser, site.ada)
    assert "Nothing was taught yet" in (await browser.get(f"{home(site)}/data")).text
    for query in ("q=x", "status=waiting", "before=9", "author=5"):
        assert "Nothing was found" in (await browser.get(f"{home(site)}/data?{query}")).text


async def test_the_table_is_paged_both_ways(site: World, browser: Browser) -> None:
    ids = [await teach(site, f"question {number}", "x") for number in range(60)]
    await sign_in(site, browser, site.ada)

    def beside(page: Answer, rel: str) -> list[str]:
        return [tag["href"] for name, tag in page.tags if tag.get("rel") == rel]

    address = f"{home(site)}/data"
    page = await browser.get(f"{address}?q=question")
    seen = numbers(page)
    assert beside(page, "prev") == []
    while older := beside(page, "next"):
        page = await browser.get(address + older[0])
        seen += numbers(page)
    assert seen == ids[::-1]
    while newer := beside(page, "prev"):
        page = await browser.get(address + newer[0])
    assert numbers(page)[0] == ids[-1]


async def test_a_search_that_takes_long_says_how_far_it_came(
    site: World, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.storage.tables.growth.WINDOW_EXAMPLES", 10)
    ids = [await teach(site, f"question {number}", "x") for number in range(25)]
    growth = storage_of(site).growth
    found = await growth.older(site.guild.id, Search("question 3"), NEWEST, 5, budget_s=-1.0)
    assert (found.examples, found.stopped_at) == ([], ids[15])
    rest = await growth.older(site.guild.id, Search("question 3"), ids[15], 5, budget_s=60.0)
    assert [one.id for one in rest.examples] == [ids[3]]
    up = await growth.newer(site.guild.id, Search("question 2"), 0, 50, budget_s=60.0)
    assert [one.id for one in up.examples] == [ids[n] for n in (24, 23, 22, 21, 20, 2)]


# --- the review ----------------------------------------------------------------------------------


async def test_a_review_is_the_same_as_the_commands(site: World, browser: Browser) -> None:
    number = await teach(site, "q", "a", status=ReviewStatus.WAITING)
    await sign_in(site, browser, site.ada)
    page = await browser.get(f"{home(site)}/data?status=waiting")
    done = await browser.submit(page, f"/{number}/review", "approve")
    assert done.url.endswith("/data?status=waiting")
    assert f"Example {number} is approved." in done.text
    storage = storage_of(site)
    example = await storage.examples.get(site.guild.id, number)
    assert example is not None
    assert example.status is ReviewStatus.APPROVED
    [entry] = await storage.audit.entries(site.guild.id, 5)
    assert (entry.actor_id, entry.action, entry.detail) == (
        site.ada.id,
        "dataset approve",
        str(number),
    )


@pytest.mark.parametrize("at_once", [False, True])
async def test_of_two_people_the_first_one_decides(
    site: World, browser: Browser, other_browser: Browser, at_once: bool
) -> None:
    role = site.guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
    boss = site.guild.add_member(site.env.create_user("cleo"), roles=[role])
    number = await teach(site, "q", "a", status=ReviewStatus.WAITING)
    await sign_in(site, browser, site.ada)
    await sign_in(site, other_browser, boss)
    address = f"{home(site)}/data"
    first, second = await browser.get(address), await other_browser.get(address)
    asked = (
        browser.submit(first, f"/{number}/review", "reject"),
        other_browser.submit(second, f"/{number}/review", "approve"),
    )
    told = await asyncio.gather(*asked) if at_once else [await one for one in asked]
    late = f"Somebody else was faster: example {number} is not as you saw it"
    was_late = [late in one.text for one in told]
    assert sorted(was_late) == [False, True]
    assert at_once or was_late == [False, True]
    example = await storage_of(site).examples.get(site.guild.id, number)
    assert example is not None
    rejected = example.status is ReviewStatus.REJECTED
    assert rejected is not was_late[0], "what was told is what was done"
    [entry] = await storage_of(site).audit.entries(site.guild.id, 5)
    assert entry.action == ("dataset reject" if rejected else "dataset approve")


@pytest.fixture
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the bot knows of members, it takes as known for an hour."""
    monkeypatch.setattr(access, "MEMBER_LIFE_S", 3600.0)


async def test_a_form_asks_anew_who_it_is(remembering: None, site: World, browser: Browser) -> None:
    role = site.guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
    boss = site.guild.add_member(site.env.create_user("cleo"), roles=[role])
    number = await teach(site, "q", "a", status=ReviewStatus.WAITING)
    await sign_in(site, browser, boss)
    page = await browser.get(f"{home(site)}/data")
    await site.bot.http.request(_change(site, boss), json={"roles": []})
    assert (await browser.get(f"{home(site)}/data")).status == 200
    assert (await browser.submit(page, f"/{number}/review", "approve")).status == 403


async def test_words_that_nobody_saw_are_not_approved(site: World, browser: Browser) -> None:
    number = await teach(site, "q", "a", status=ReviewStatus.WAITING)
    await sign_in(site, browser, site.ada)
    page = await browser.get(f"{home(site)}/data")
    await storage_of(site).examples.edit(site.guild.id, number, "q", "something else")
    late = await browser.submit(page, f"/{number}/review", "approve")
    assert "Somebody else was faster" in late.text
    assert "something else" in late.text
    await storage_of(site).examples.remove(site.guild.id, number)
    gone = await browser.submit(late, f"/{number}/review", "approve")
    assert gone.status == 404
    assert "Somebody has already removed that example." in gone.text


async def test_htmx_gets_the_row_alone(site: World, browser: Browser) -> None:
    number = await teach(site, "q", "a", status=ReviewStatus.WAITING)
    await sign_in(site, browser, site.ada)
    page = await browser.get(f"{home(site)}/data")
    form = page.form(f"/{number}/review")
    sent = {**form.fields, "decision": "approve"}
    row = await browser.post(form.action, sent, **{"HX-Request": "true"})
    assert row.tags[0] == ("tr", {"role": "row", "data-said": f"Example {number} is approved."})
    assert "<html" not in row.html
    rows = await browser.get(f"{home(site)}/data?q=zzz", **{"HX-Request": "true"})
    assert rows.text == "Nothing was found. Use fewer words, or choose another status."


async def test_a_long_text_is_reviewed_where_all_of_it_is_read(
    site: World, browser: Browser
) -> None:
    number = await teach(site, "q", "long " * 200, status=ReviewStatus.WAITING)
    await sign_in(site, browser, site.ada)
    page = await browser.get(f"{home(site)}/data")
    assert f"/data/{number}/review" not in page.html
    whole = await browser.get(f"{home(site)}/data/{number}")
    assert whole.text.count("long") >= 200
    done = await browser.submit(whole, f"/{number}/review", "reject")
    assert f"Example {number} is rejected." in done.text


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "ja"])
async def test_taught_text_is_never_markup(
    site: World, browser: Browser, other_browser: Browser, language: str
) -> None:
    """In texts, names, sources, reports, notices, chart data and the search, on every page."""
    site.env.backend.edit_guild(site.guild.id, {"name": EVIL[:60]})
    await site.bot.http.request(_change(site, site.ben), json={"nick": EVIL[:32]})
    number = await teach(site, EVIL, EVIL, source=EVIL, status=ReviewStatus.WAITING)
    job = await train(
        site,
        answers=[{"prompt": EVIL, "before": EVIL, "after": EVIL}],
        failures=[{"prompt": EVIL, "reply": EVIL, "wrong": EVIL}],
        summary=EVIL,
        refusal=EVIL,
    )
    golden = GoldenQuestion(0, site.guild.id, EVIL, GoldenKind.CONTAIN, EVIL, 3)
    added = await storage_of(site).golden.add(golden)
    assert added is not None
    score = GoldenScore(added.id, "tiny-1", 5, 5, 3, datetime.now(UTC))
    await storage_of(site).golden.record(site.guild.id, [score])
    page = await sign_in(site, browser, site.ada)
    await browser.submit(page, "/language", language=language)
    data = f"{home(site)}/data"
    for path in (
        home(site),
        data,
        f"{data}/{number}",
        f"{data}?q={EVIL.replace('&', '%26').replace('#', '%23')}",
        f"{home(site)}/trainings/{job}",
        f"{home(site)}/checkpoints",
    ):
        shown = await browser.get(path)
        assert shown.status == 200
        assert ("html", {"lang": language}) in shown.tags
        assert_harmless(shown)
        assert EVIL in shown.text or path.endswith("/checkpoints")
    make_link = site.bot.get_cog("GrowthCommand")._make_link
    asked = await other_browser.get(f"/in/{make_link(site.ben.id, site.guild.id, language)}")
    own = await other_browser.submit(asked, "")
    for shown in (asked, own):
        assert_harmless(shown)
    assert EVIL[:32] in asked.text
    assert EVIL in own.text


def assert_harmless(shown: Answer) -> None:
    """What is shown says EVIL, at least the beginning of it, and runs nothing of it."""
    assert EVIL[:32] in shown.text
    scripts = [tag for name, tag in shown.tags if name == "script"]
    assert all(tag["src"].startswith("/static/") for tag in scripts)
    assert not any("onerror" in tag for name, tag in shown.tags)


def _change(world: World, who: Any) -> Any:
    return discord.http.Route(
        "PATCH",
        "/guilds/{guild_id}/members/{user_id}",
        guild_id=world.guild.id,
        user_id=who.id,
    )


async def test_the_pages_are_japanese(site: World, browser: Browser) -> None:
    await teach(site, "質問です", "答えです")
    job = await train(site, summary=None, failures=[])
    site.bot.operators.add(site.ada.id)
    page = await sign_in(site, browser, site.ada)
    await browser.submit(page, "/language", language=JAPANESE)
    for path in ("/health", home(site), f"{home(site)}/data", f"{home(site)}/trainings/{job}"):
        shown = await browser.get(path)
        assert "Skip to the content" not in shown.text
        assert "本文へ" in shown.text


def test_every_word_is_used_and_every_used_word_is_there() -> None:
    folder = Path(__file__).parents[3] / "bot" / "web"
    code = "".join(one.read_text(encoding="utf-8") for one in folder.rglob("*.html"))
    code += "".join(one.read_text(encoding="utf-8") for one in folder.glob("*.py"))
    named = set(re.findall(r"\b(?:w|words|Words\(\))\.(\w+)", code))
    named |= set(re.findall(r"WORDS\[\"(\w+)\"\]", code))
    named |= {section for section in ("timeline", "trainings", "checkpoints", "data_set")}
    named |= {"gateway", "database", "worker"}  # by the names of the probes
    assert named == set(WORDS)
