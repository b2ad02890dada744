"""The page of growth in a real Chromium: signed in from the link, read, searched, reviewed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="Playwright drives the browser; `uv sync` installs it")

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from benchmarks.web import Life, fill
from bot.settings import Settings
from core.records import GoldenKind, GoldenQuestion, GoldenScore, NewExample, ReviewStatus
from data.storage.storage import Storage
from data.storage.tables.growth import Growth
from i18n.catalogue import JAPANESE
from scripts.stage import NoChromium, chromium_path
from tests.bot.asking import storage_of
from tests.bot.conftest import World, usual_settings
from tests.bot.web.browser import link_of, open_site
from tests.fakes import FakeWorker
from tests.ports import free_port

LIFE = Life(examples=400, jobs=8, checkpoints=4, steps=300)
WIDTHS = {"phone": 420, "desk": 1200}
FOCUSED = """() => {
    const one = document.activeElement;
    if (one === document.body) return "";
    return one.ariaLabel || one.labels?.[0]?.textContent || one.textContent;
}"""
"""What is named where the keyboard is; "" if that is nowhere in the page."""
UNDER_WAY = ".htmx-request, .htmx-swapping, .htmx-settling"
PICTURES = Path(__file__).parents[2] / "var" / "growth"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        try:
            path = chromium_path(playwright.chromium.executable_path)
        except NoChromium as e:
            pytest.skip(str(e))
        browser = await playwright.chromium.launch(executable_path=path)
        yield browser
        await browser.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return usual_settings().model_copy(update={"gpt2bot_home": tmp_path / "var"})


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


@pytest.fixture
async def site(settings: Settings, worker: FakeWorker) -> AsyncIterator[World]:
    """A server with a life of two years, two golden questions and a duel."""
    async with open_site(settings, worker, free_port()) as world:
        names = [world.env.create_user(f"member {n}") for n in range(4)]
        authors = [world.ada.id, *(world.guild.add_member(one).id for one in names)]
        root = world.home / "checkpoints"
        await fill(storage_of(world), root, world.guild.id, authors, LIFE)
        await judge(storage_of(world), world.guild.id, f"tiny-{LIFE.checkpoints}")
        yield world


async def judge(storage: Storage, scope: int, model: str) -> None:
    """The model has passed one golden question, and failed another; it is in a duel."""
    for asked, good in (("Who is our admin?", 5), ("Where do we meet?", 1)):
        new = GoldenQuestion(0, scope, asked, GoldenKind.CONTAIN, "Ada", 3)
        golden = await storage.golden.add(new)
        assert golden is not None
        score = GoldenScore(golden.id, model, good, good, 3, datetime.now(UTC))
        await storage.golden.record(scope, [score])
    await storage.duels.start(scope, ("tiny", model), 20, frozenset(), 1)


async def signed_in(world: World, browser: Browser, **options: Any) -> Page:
    """A page in a new browser, in which ada is signed in; any error on it fails the test."""
    context: BrowserContext = await browser.new_context(**options)
    page = await context.new_page()
    page.set_default_timeout(30_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.errors = errors  # type: ignore[attr-defined]
    base = f"http://127.0.0.1:{_port(world)}"
    await page.goto(base + await link_of(world, world.ada))
    await page.get_by_role("button", name=re.compile("Yes, sign me in|はい")).click()
    await expect(page.locator("main h1")).to_be_visible()
    return page


def _port(world: World) -> str:
    address = world.bot.get_cog("GrowthCommand")._address
    return str(address.rpartition(":")[2])


async def paths(page: Page) -> dict[str, str]:
    """The pages to look at, by name."""
    home = "/" + page.url.split("/", 3)[3]
    job = await page.locator(".training a").first.get_attribute("href")
    assert job is not None
    return {
        "timeline": home,
        "trainings": f"{home}/trainings",
        "training": job,
        "checkpoints": f"{home}/checkpoints",
        "data": f"{home}/data",
        "example": f"{home}/data/97",
        "health": "/health",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
async def test_pages_are_readable_by_everybody(
    site: World, chromium: Browser, width: int, scheme: Any
) -> None:
    """axe finds nothing, no page is wider than the screen, and nothing breaks the policy."""
    site.bot.operators.add(site.ada.id)
    size = {"width": width, "height": 900}
    page = await signed_in(site, chromium, viewport=size, color_scheme=scheme)
    base = page.url.split("/s/")[0]
    for name, path in (await paths(page)).items():
        await page.goto(base + path)
        await assert_readable(page, f"{name}-{width}-{scheme}")
    assert page.errors == []  # type: ignore[attr-defined]


async def assert_readable(page: Page, name: str) -> None:
    """axe finds nothing on the page, and it fits the screen; a picture of it is kept."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    found = await Axe().run(page)
    await page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
    assert found.violations_count == 0, f"{name}: {found.generate_report()}"
    assert page.viewport_size is not None
    width = page.viewport_size["width"]
    assert await page.evaluate("document.documentElement.scrollWidth") <= width, name


@pytest.mark.parametrize("locale", ["en-GB", "ja-JP"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
async def test_what_members_and_strangers_see_is_readable_too(
    site: World, chromium: Browser, width: int, locale: str
) -> None:
    """The ways in, a member's own page, the choice of servers, and a page that is refused."""
    other = site.env.create_guild("Another place")
    ben = other.add_member(site.ben.user)
    lesson = NewExample(site.guild.id, "Who mends the nets?", "Ben does.", ben.id, "teach")
    await storage_of(site).examples.add(lesson)
    context = await chromium.new_context(viewport={"width": width, "height": 900}, locale=locale)
    page, language = await context.new_page(), locale[:2]
    make_link = site.bot.get_cog("GrowthCommand")._make_link
    links = [make_link(ben.id, one.id, language) for one in (other, site.guild)]
    base = f"http://127.0.0.1:{_port(site)}"
    for name, path in {
        "sign-in": "/",
        "void-link": f"/in/{links[0]}",
        "link": f"/in/{links[1]}",
        "own": "",  # its button is pressed
        "refused": f"/s/{site.guild.id}/data",
        "nowhere": "/nowhere",
    }.items():
        if path:
            await page.goto(base + path)
        else:
            await page.locator("button.main").click()
        await expect(page.locator("html")).to_have_attribute("lang", language)
        await assert_readable(page, f"{name}-{width}-{language}")


async def test_whoever_is_in_several_servers_chooses_one(site: World, chromium: Browser) -> None:
    site.bot.operators.add(site.ada.id)
    site.env.create_guild("Another place")
    page = await signed_in(site, chromium, viewport={"width": WIDTHS["phone"], "height": 900})
    await page.get_by_role("link", name="Your servers").click()
    await assert_readable(page, "servers")
    await page.get_by_role("link", name="Another place").click()
    await expect(page.get_by_text("Nothing was taught yet")).to_be_visible()
    await assert_readable(page, "empty")


async def test_the_signs_in_and_the_charts_in_japanese(site: World, chromium: Browser) -> None:
    page = await signed_in(site, chromium, viewport={"width": 1200, "height": 900})
    await page.get_by_label("Language").select_option(JAPANESE)
    await page.get_by_role("button", name="OK").click()
    await expect(page.locator("html")).to_have_attribute("lang", JAPANESE)
    await page.screenshot(path=PICTURES / "japanese.png", full_page=True)
    await expect(page.locator(".plot canvas")).to_have_count(1)
    await expect(page.locator(".u-legend")).to_contain_text("日")


async def test_a_keyboard_is_enough(site: World, chromium: Browser) -> None:
    """From the front page to a review, and on to the next one, without a mouse."""
    page = await signed_in(site, chromium)

    async def tab_to(name: str) -> None:
        for _ in range(40):
            await page.keyboard.press("Tab")
            label = await page.evaluate(FOCUSED)  # after the last one, Tab leaves the page
            if label.startswith(name):
                return
        pytest.fail(f"Tab does not lead to “{name}”")

    await page.keyboard.press("Tab")
    await expect(page.locator(":focus")).to_have_text("Skip to the content")
    await page.keyboard.press("Enter")
    await expect(page.locator(":focus")).to_have_attribute("id", "content")
    await page.reload()
    await tab_to("Data set")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile("/data$"))
    await tab_to("Part of a question")
    await page.keyboard.type("Question 97:")
    await expect(page).to_have_url(re.compile("97"))  # it is found as one types
    await tab_to("Status")
    await page.keyboard.type("waiting")
    await expect(page).to_have_url(re.compile("status=waiting"))
    await tab_to("Search")
    async with page.expect_response(re.compile("/data")):
        await page.keyboard.press("Enter")
    await expect(page.locator(UNDER_WAY)).to_have_count(0)  # what is replaced loses the focus
    await expect(page.locator("tbody tr")).to_have_count(1)
    await tab_to("Approve")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_have_text("Example 98 is approved.")
    await expect(page.locator(":focus")).to_have_attribute("href", re.compile("/data/98$"))


async def test_an_example_is_searched_and_reviewed_in_place(site: World, chromium: Browser) -> None:
    page = await signed_in(site, chromium)
    await page.get_by_role("link", name="Data set").first.click()
    await page.get_by_label("Status").select_option("waiting")
    await expect(page).to_have_url(re.compile("status=waiting"))
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(5)
    await page.get_by_label("Part of a question or an answer").fill("Question 97:")
    await expect(rows).to_have_count(1)
    await page.get_by_role("button", name=re.compile("^Approve")).click()
    await expect(page.get_by_role("status")).to_have_text("Example 98 is approved.")
    await expect(rows.locator(".tag")).to_have_text("approved")
    await expect(page.locator(":focus")).to_have_attribute("href", re.compile("/data/98$"))
    example = await storage_of(site).examples.get(site.guild.id, 98)
    assert example is not None
    assert example.status is ReviewStatus.APPROVED
    assert page.errors == []  # type: ignore[attr-defined]


async def test_a_search_goes_on_until_it_finds_something(
    site: World, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.storage.tables.growth.WINDOW_EXAMPLES", 100)
    monkeypatch.setattr(Growth.older, "__defaults__", (-1.0,))  # one window for each request
    page = await signed_in(site, chromium)
    await page.get_by_role("link", name="Data set").first.click()
    await page.get_by_label("Part of a question or an answer").fill("Question 17:")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_label("Part of a question or an answer").fill("nothing of the kind")
    await expect(page.locator("#found")).to_contain_text("Nothing was found. Use fewer words")
    assert page.errors == []  # type: ignore[attr-defined]


async def test_without_scripts_all_of_it_works(site: World, chromium: Browser) -> None:
    page = await signed_in(site, chromium, java_script_enabled=False)
    await page.get_by_role("link", name="Data set").first.click()
    await page.get_by_label("Part of a question or an answer").fill("Question 97:")
    await page.get_by_role("button", name="Search").click()
    await page.get_by_role("button", name=re.compile("^Reject")).click()
    await expect(page.get_by_role("status")).to_have_text("Example 98 is rejected.")


@pytest.mark.parametrize("doing", ["a search", "a review"])
async def test_over_a_restart_whatever_is_done_leads_to_the_sign_in(
    settings: Settings, worker: FakeWorker, chromium: Browser, doing: str
) -> None:
    port = free_port()
    async with open_site(settings, worker, port) as world:
        lesson = NewExample(world.guild.id, "q", "a", 1, "teach", status=ReviewStatus.WAITING)
        waiting = await storage_of(world).examples.add(lesson)
        page = await signed_in(world, chromium)
        await page.get_by_role("link", name="Data set").first.click()
    async with open_site(settings, worker, port) as world:
        if doing == "a search":
            await page.get_by_label("Part of a question or an answer").fill("anything")
        else:
            await page.get_by_role("button", name=re.compile("^Approve")).click()
        await expect(page.get_by_role("alert")).to_contain_text("I was restarted")
        assert await storage_of(world).examples.get(waiting.scope, waiting.id) == waiting
