"""How long the page of growth takes, and how much it transfers, on a server with much data.

`python -m benchmarks.web` fills a real database (100,000 examples of 40 authors over two years, 60
trainings, 20 checkpoints), opens the bot with its page in a simulated Discord, signs a manager in
with the link of /growth, and then a member, and asks for each page: when nothing has changed, and
right after a lesson. The time is that of the whole request, with browser and bot in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import math
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import discord
import simcord

from benchmarks.command import Say, run_measurement
from bot.app import build_bot
from bot.settings import load_settings, prepare_home
from core.records import JobState, NewExample
from data.storage.storage import Storage, open_storage
from training.checkpoints import HISTORY_FILE, REPORT_FILE, Manifest, seal

AUTHORS, DAYS = 40, 730
MS_BAR, KB_BAR = 100.0, 300.0
"""What a page may take and transfer."""
OWN_PAGE = "a member's own lessons"
STATIC = re.compile(r'(?:src|href)="(/static/[^"]+)"')


@dataclass(frozen=True, slots=True)
class Life:
    """How much there is of a server."""

    examples: int = 100_000
    jobs: int = 60
    checkpoints: int = 20
    steps: int = 1500


def main() -> None:
    options = _options()
    life = Life(2000, 6, 3, 200) if options.short else Life(options.examples)
    rounds = 3 if options.short else options.rounds
    run_measurement(partial(_measure, life, rounds), _print_table, as_json=options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20, help="requests for each page (20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--short", action="store_true", help="to see that all of it runs")
    return parser.parse_args()


async def _measure(life: Life, rounds: int, folder: Path, say: Say) -> dict[str, Any]:
    port = await _free_port()
    settings = load_settings(gpt2bot_home=folder, default_model="tiny", web_port=port)
    prepare_home(settings)
    async with build_bot(settings) as bot:
        env = simcord.Env(bot, settle_timeout=600, shard_count=1)
        await env.start()
        try:
            guild = env.create_guild()
            role = guild.create_role("Admins", permissions=discord.Permissions(administrator=True))
            ada = guild.add_member(env.create_user("ada"), roles=[role])
            ben = guild.add_member(env.create_user("ben"), roles=[role])
            people = [guild.add_member(env.create_user(f"member{n}")) for n in range(1, AUTHORS)]
            say(f"filling it with {life.examples:,} examples ...")
            authors = [one.id for one in (ben, *people)]
            async with open_storage(settings.paths.database) as storage:
                await fill(storage, settings.paths.checkpoints, guild.id, authors, life)
                channel = guild.create_text_channel("general")
                links = [await _link(one, channel) for one in (ada, ben)]
                await _demote(bot, guild.id, ben.id)
                say("asking for the pages ...")
                pages = (pages_of(guild.id), {OWN_PAGE: f"/s/{guild.id}"})
                return {
                    name: figures
                    for link, some in zip(links, pages, strict=True)
                    for name, figures in (await _ask(storage, guild.id, link, some, rounds)).items()
                }
        finally:
            await env.shutdown()


async def _free_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        return int(server.sockets[0].getsockname()[1])


async def _link(who: Any, channel: Any) -> str:
    told = await who.slash(channel, "growth")
    [link] = re.findall(r"<(http://[^>]+)>", told.response.content)
    return str(link)


async def _demote(bot: discord.Client, guild_id: int, user_id: int) -> None:
    """Take all roles from a member, who then sees what they taught themselves."""
    path = "/guilds/{guild_id}/members/{user_id}"
    route = discord.http.Route("PATCH", path, guild_id=guild_id, user_id=user_id)
    await bot.http.request(route, json={"roles": []})


# --- the life of a server ------------------------------------------------------------------------


async def fill(
    storage: Storage, checkpoints: Path, scope: int, authors: Sequence[int], life: Life
) -> None:
    """Two years of a server: lessons on most days, an import, trainings with their checkpoints."""
    names = json.dumps(list(authors))
    await storage._execute(
        """
        INSERT INTO examples (scope, user, bot, author_id, source, status, created_at, question)
        WITH RECURSIVE numbers (n) AS
            (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?2)
        SELECT ?1, 'Question ' || n || ': what do we call the room with ' || (n % 977) || ' doors?',
            'We call it number ' || n || ', ' || hex(randomblob(12 + n % 40)) || '.',
            (SELECT value FROM json_each(?3) WHERE key = n * 7 % ?4),
            iif(n * 2 < ?2, 'import', iif(n % 5 = 0, 'better answer', 'teach')),
            iif(n % 97 = 0, 'waiting', iif(n % 211 = 0, 'rejected', 'approved')),
            strftime('%Y-%m-%dT%H:%M:%S+00:00', 1704067200 +
                iif(n * 2 < ?2, 86400, CAST(n AS REAL) / ?2 * 86400 * ?5), 'unixepoch'),
            'question ' || n
        FROM numbers
        """,
        scope,
        life.examples,
        names,
        len(authors),
        DAYS,
    )
    await asyncio.to_thread(_make_checkpoints, checkpoints / str(scope), life)
    for number in range(life.jobs):
        job = await storage.jobs.add(
            scope=scope,
            requested_by=authors[0],
            channel_id=1,
            base_model="tiny",
            directory=str(checkpoints),
        )
        made = number >= life.jobs - life.checkpoints
        name = f"tiny-{number - life.jobs + life.checkpoints + 1}" if made else None
        state = JobState.PROMOTED if made else JobState.CANCELLED
        await storage.jobs.set_state(job.id, state, checkpoint=name)
    when = f"1704067200 + id * 86400 * {DAYS // life.jobs}"
    day = "%Y-%m-%dT12:00:00+00:00"
    await storage._execute(f"UPDATE jobs SET created_at = strftime('{day}', {when}, 'unixepoch')")
    await storage.model_choices.set_active(scope, f"tiny-{life.checkpoints}")


def _make_checkpoints(root: Path, life: Life) -> None:
    for number in range(1, life.checkpoints + 1):
        folder = root / f"tiny-{number}"
        folder.mkdir(parents=True)
        _write(folder / HISTORY_FILE, {"log": _history(life.steps)})
        _write(folder / REPORT_FILE, _report(number))
        (folder / "model.safetensors").write_bytes(b"0")
        manifest = Manifest(
            name=folder.name,
            base="tiny",
            base_name="tiny",
            created_at=f"2025-{1 + number % 12:02d}-02T03:04:05+00:00",
            dataset_sha256="0" * 64,
            parameters=5_325_568,
            settings={},
            scores={"first_loss": 4.2, "last_loss": 0.3},
            examples=life.examples * number // life.checkpoints,
            seconds=612.0,
            device="cpu",
        )
        seal(folder, manifest)


def _history(steps: int) -> list[dict[str, float]]:
    return [
        {"step": n, "loss": 0.3 + 4 * math.exp(-3 * n / steps) + 0.1 * math.sin(n)}
        for n in range(1, steps + 1)
    ]


def _report(number: int) -> dict[str, Any]:
    asked = [f"Who looks after room {n}?" for n in range(8)]
    return {
        "answers": [
            {"prompt": one, "before": "I am not sure.", "after": f"Mira does, since {number}."}
            for one in asked
        ],
        "losses": {
            "general": {"base": 3.81, "serving": 3.84, "new": 3.82},
            "own": {"base": 4.2, "serving": 1.4, "new": 0.9 / number},
        },
        "data": {"added": 12, "removed": 1, "same": 900},
        "seconds": 612.0,
        "refusal": "It loops." if number == 2 else None,
    }


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


# --- the pages -----------------------------------------------------------------------------------


def pages_of(scope: int) -> dict[str, str]:
    """Each page of a server that managers see, by what it is."""
    home = f"/s/{scope}"
    return {
        "timeline": home,
        "timeline, a year back": f"{home}?until=2025-01-02",
        "timeline, at an import": f"{home}?until=2024-01-02",
        "trainings": f"{home}/trainings",
        "a training": f"{home}/trainings/{{job}}",
        "checkpoints": f"{home}/checkpoints",
        "data set": f"{home}/data",
        "data set, the middle of it": f"{home}/data?before=50000",
        "search, found often": f"{home}/data?q=room",
        "search, found once": f"{home}/data?q=Question+17%3A",
        "search, found never": f"{home}/data?q=nothing+of+the+kind",
        "search for waiting ones": f"{home}/data?status=waiting&q=Question+97%3A",
        "an example": f"{home}/data/1000",
    }


async def _ask(
    storage: Storage, scope: int, link: str, pages: Mapping[str, str], rounds: int
) -> dict[str, Any]:
    base = link.rpartition("/in/")[0]
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as browser:
        page = await (await browser.get(link)).text()
        [token] = re.findall(r'name="csrf" value="([^"]+)"', page)[:1]
        front = await browser.post(link, data={"csrf": token})
        front.raise_for_status()
        static = await _static_bytes(browser, base, await front.text())
        newest = (await storage.jobs.all(scope))[-1].id
        result = {}
        for name, path in pages.items():
            url = base + path.format(job=newest)
            await _timed(browser, url)  # names are asked of Discord once
            again = [await _timed(browser, url) for _ in range(rounds)]
            fresh = []
            for number in range(rounds):
                lesson = f"{name} {number}"
                await storage.examples.add(NewExample(scope, lesson, lesson, 1, "teach"))
                fresh.append(await _timed(browser, url))
            result[name] = {
                "median_ms": _ms([one.seconds for one in again]),
                "after_a_lesson_ms": _ms([one.seconds for one in fresh]),
                "after_a_lesson_cpu_ms": _ms([one.cpu_s for one in fresh]),
                "page_kb": round(max(one.size for one in again) / 1000, 1),
                "first_visit_kb": round((max(one.size for one in again) + static) / 1000, 1),
            }
    return result


async def _static_bytes(browser: aiohttp.ClientSession, base: str, page: str) -> int:
    """The bytes of what a page loads besides, as they are transferred."""
    total = 0
    for path in sorted(set(STATIC.findall(page))):
        async with browser.get(base + path) as answer:
            total += len(gzip.compress(await answer.read(), mtime=0))
    return total


@dataclass(frozen=True, slots=True)
class Timed:
    """What a request took: by the clock, of the processor (the browser's part as well), and the
    bytes of its body, compressed."""

    seconds: float
    cpu_s: float
    size: int


async def _timed(browser: aiohttp.ClientSession, url: str) -> Timed:
    start, cpu = time.perf_counter(), time.process_time()
    async with browser.get(url) as answer:
        body = await answer.read()
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    answer.raise_for_status()
    return Timed(seconds, cpu_s, len(gzip.compress(body, mtime=0)))


def _ms(seconds: Sequence[float]) -> float:
    return round(1000 * statistics.median(seconds), 1)


def _print_table(result: dict[str, Any]) -> None:
    heads = ("page", "median", "after a lesson", "CPU", "page", "first visit")
    print("\n{:<28}{:>10}{:>16}{:>10}{:>10}{:>13}".format(*heads))
    for name, one in result.items():
        print(
            f"{name:<28}{one['median_ms']:>7.1f} ms{one['after_a_lesson_ms']:>13.1f} ms"
            f"{one['after_a_lesson_cpu_ms']:>7.1f} ms"
            f"{one['page_kb']:>7.1f} KB{one['first_visit_kb']:>10.1f} KB"
        )
    slow = [one for one, figures in result.items() if figures["after_a_lesson_ms"] > MS_BAR]
    large = [one for one, figures in result.items() if figures["first_visit_kb"] > KB_BAR]
    print(f"\nover {MS_BAR:.0f} ms: {', '.join(slow) or 'none'}")
    print(f"over {KB_BAR:.0f} KB: {', '.join(large) or 'none'}")


if __name__ == "__main__":
    main()
