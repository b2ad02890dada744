"""Signing in to the page with the link of /growth: who may, and all the ways in which it fails."""

from __future__ import annotations

import asyncio

import discord
import pytest

from bot.settings import Settings, SettingsError
from bot.web import sessions
from bot.web.guard import HEADERS
from bot.web.sessions import LinkState, SignIns
from core.records import NewExample, ReviewStatus
from tests.bot.asking import storage_of
from tests.bot.conftest import World
from tests.bot.web.browser import Browser, link_of, new_browser, open_site, sign_in
from tests.fakes import FakeWorker
from tests.ports import free_port


async def test_a_manager_signs_in_with_the_link(site: World, browser: Browser) -> None:
    page = await sign_in(site, browser, site.ada)
    assert (page.status, page.url) == (200, f"{browser.base}/s/{site.guild.id}")
    assert "Nothing was taught yet" in page.text
    assert (await browser.get("/")).url == page.url


async def test_looking_at_a_link_uses_nothing_up(site: World, browser: Browser) -> None:
    path = await link_of(site, site.ada)
    for _ in range(3):
        page = await browser.get(path)
    assert "signs you in as ada, for the server" in page.text
    assert (await browser.submit(page, "")).status == 200


async def test_a_link_works_once(site: World, browser: Browser, other_browser: Browser) -> None:
    path = await link_of(site, site.ada)
    page = await browser.get(path)
    assert (await browser.submit(page, "")).status == 200
    again = await browser.get(path)
    assert again.url == f"{browser.base}/s/{site.guild.id}", "its member is led on"
    stolen = await other_browser.get(path)
    assert stolen.status == 410
    assert "This link was used already" in stolen.text
    assert (await other_browser.get(f"/s/{site.guild.id}")).status == 401


async def test_a_link_that_another_browser_opened_first(
    site: World, browser: Browser, other_browser: Browser
) -> None:
    path = await link_of(site, site.ada)
    page = await browser.get(path)
    stolen = await other_browser.get(path)
    assert stolen.status == 410
    assert "opened in another browser first" in stolen.text
    refused = await other_browser.post(path, page.form("").fields)
    assert refused.status == 403, "the form belongs to the browser that was shown it"
    assert (await browser.submit(page, "")).status == 200


async def test_a_new_link_voids_the_older_one_and_signs_out(
    site: World, browser: Browser, other_browser: Browser
) -> None:
    await sign_in(site, browser, site.ada)
    page = await sign_in(site, other_browser, site.ada)
    assert page.status == 200
    assert (await browser.get(f"/s/{site.guild.id}")).status == 401


def test_a_link_to_another_server_keeps_the_first_one() -> None:
    sign_ins = SignIns()
    sign_ins.begin(1, frozenset({2}), "en")
    sign_ins.begin(9, frozenset({8}), "en")
    _, link = sign_ins.use_link(sign_ins.make_link(1, 3, "en"), "mine")
    assert link is not None
    assert (link.guild_id, link.guild_ids) == (3, {2, 3})


async def test_an_old_link(site: World, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await link_of(site, site.ada)
    page = await browser.get(path)
    monkeypatch.setattr(sessions, "LINK_LIFE_S", -1.0)
    for late in (await browser.get(path), await browser.submit(page, "")):
        assert late.status == 410
        assert "This link is too old: it could be used for ten minutes." in late.text


async def test_a_link_that_nobody_made(site: World, browser: Browser) -> None:
    page = await browser.get(f"/in/{'x' * 43}")
    assert page.status == 410
    assert "I do not know this link" in page.text
    assert "use the command /growth there" in page.text


def test_times_of_links_and_sessions() -> None:
    now = 0.0
    sign_ins = SignIns(lambda: now)
    token = sign_ins.make_link(1, 2, "en")
    now = 600.0
    assert sign_ins.open_link(token, "mine")[0] is LinkState.USABLE
    now = 601.0
    assert sign_ins.open_link(token, "mine")[0] is LinkState.EXPIRED
    now = 4000.0
    assert sign_ins.open_link(token, "mine")[0] is LinkState.UNKNOWN
    cookie = sign_ins.begin(1, frozenset({2}), "en")
    assert sign_ins.session(cookie) is not None
    now += 12 * 3600 + 1
    assert sign_ins.session(cookie) is None
    state = sign_ins.state("mine")
    assert sign_ins.is_state(state, "mine")
    assert not sign_ins.is_state(state, "another")
    now += 601
    assert not sign_ins.is_state(state, "mine")


def test_what_a_browser_has_is_not_kept() -> None:
    sign_ins = SignIns()
    secrets = [sign_ins.make_link(1, 2, "en"), sign_ins.begin(1, frozenset({2}), "en")]
    sign_ins.open_link(secrets[0], "the browser")
    kept = repr(sign_ins)
    assert not any(one in kept for one in (*secrets, "the browser"))


async def test_the_cookie(site: World, browser: Browser) -> None:
    page = await browser.get(await link_of(site, site.ada))
    form = page.form("")
    async with browser._session.post(page.url, data=form.fields, allow_redirects=False) as answer:
        [cookie] = [one for one in answer.headers.getall("Set-Cookie") if "gpt2bot-session" in one]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie, "it is not public: browsers would not send it back"


async def test_of_a_public_page_the_cookie_goes_through_tls_alone(
    settings: Settings, worker: FakeWorker, port: int
) -> None:
    public = {"web_url": "https://growth.example.org"}
    async with (
        open_site(settings, worker, port, public) as world,
        new_browser(port, Host="growth.example.org") as browser,
    ):
        page = await browser.get(await link_of(world, world.ada))
        assert page.status == 200
        [cookie] = page.headers.getall("Set-Cookie")
        assert cookie.startswith("__Host-gpt2bot-browser=")
        assert "Secure" in cookie
        assert "max-age=31536000" in page.headers["Strict-Transport-Security"]


async def test_signing_out(site: World, browser: Browser) -> None:
    page = await sign_in(site, browser, site.ada)
    out = await browser.submit(page, "/out")
    assert "You are signed out." in out.text
    assert (await browser.get(f"/s/{site.guild.id}")).status == 401


async def test_who_is_forgotten_is_signed_out(site: World, browser: Browser) -> None:
    await sign_in(site, browser, site.ada)
    asked = await site.ada.slash(site.general, "privacy forget")
    buttons = [one for row in asked.response.components for one in row["components"]]
    await site.ada.click(asked.response, custom_id=buttons[0]["custom_id"])
    async with asyncio.timeout(30):
        while await storage_of(site).erasures.unfinished():
            pass
    assert (await browser.get(f"/s/{site.guild.id}")).status == 401


# --- forms, headers, names -----------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", "x", "x.y", "ü.ü", "0" * 500])
async def test_a_form_without_its_token_does_nothing(
    site: World, browser: Browser, token: str | None
) -> None:
    await sign_in(site, browser, site.ada)
    await assert_refused(site, browser, {} if token is None else {"csrf": token})


async def test_a_token_of_somebody_elses_browser_does_nothing(
    site: World, browser: Browser, other_browser: Browser
) -> None:
    role = site.guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
    boss = site.guild.add_member(site.env.create_user("cleo"), roles=[role])
    theirs = await sign_in(site, other_browser, boss)
    await sign_in(site, browser, site.ada)
    await assert_refused(site, browser, {"csrf": theirs.form("/out").fields["csrf"]})


async def assert_refused(site: World, browser: Browser, token: dict[str, str]) -> None:
    """Each form of whoever is signed in is refused, and does nothing."""
    waiting = NewExample(site.guild.id, "q", "a", 1, "teach", status=ReviewStatus.WAITING)
    example = await storage_of(site).examples.add(waiting)
    data = f"/s/{site.guild.id}/data"
    seen = (await browser.get(data)).form("/review").fields["seen"]
    for path, fields in {
        "/language": {"language": "ja"},
        f"{data}/{example.id}/review": {"decision": "approve", "seen": seen},
        "/out": {},
    }.items():
        refused = await browser.post(path, fields | token)
        assert refused.status == 403, path
        assert "That form is too old, or was not one of mine. Nothing was done" in refused.text
    assert "Timeline" in (await browser.get(data)).text, "signed in, and in English"
    assert await storage_of(site).examples.get(site.guild.id, example.id) == example


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}]
)
async def test_a_form_of_another_site_does_nothing(
    site: World, browser: Browser, headers: dict[str, str]
) -> None:
    page = await sign_in(site, browser, site.ada)
    form = page.form("/language")
    refused = await browser.post("/language", {**form.fields, "language": "ja"}, **headers)
    assert refused.status == 403
    assert "Timeline" in (await browser.get("/")).text


async def test_every_answer_has_the_headers(site: World, browser: Browser) -> None:
    page = await sign_in(site, browser, site.ada)
    style = next(tag["href"] for name, tag in page.tags if tag.get("rel") == "stylesheet")
    for path in ("/", "/nowhere", "/health", style, f"/s/{site.guild.id}/data"):
        answer = await browser.get(path)
        assert HEADERS.items() <= dict(answer.headers).items(), path
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    assert (await browser.get(style)).headers["Cache-Control"].endswith("immutable")
    assert page.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("host", ["rebound.example", "192.168.1.20:1", "[", ""])
async def test_a_name_that_was_led_here_is_refused(
    site: World, browser: Browser, host: str
) -> None:
    assert (await browser.get("/", Host=host)).status == 403


async def test_no_page_has_inline_script_or_style_or_another_host(
    site: World, browser: Browser
) -> None:
    page = await sign_in(site, browser, site.ada)
    for name, attributes in page.tags:
        assert name != "style"
        assert name != "script" or attributes["src"].startswith("/static/")
        assert not any(one == "style" or one.startswith("on") for one in attributes)
        for link in ("src", "href", "action"):
            assert attributes.get(link, "/").startswith(("/", "?", "#"))


async def test_the_way_back_of_the_language_stays_here(site: World, browser: Browser) -> None:
    page = await sign_in(site, browser, site.ada)
    for back in ("//evil.example", "https://evil.example", "/\\evil.example"):
        shown = await browser.submit(page, "/language", language="ja", back=back)
        assert shown.url.startswith(browser.base)
    assert ("html", {"lang": "ja"}) in shown.tags


# --- start and stop ------------------------------------------------------------------------------


async def test_only_this_machine_reaches_it(site: World, browser: Browser, port: int) -> None:
    """It listens on one address, so on none that others could ask."""
    assert (await browser.get("/")).status == 200
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.2", port)


async def test_a_port_that_is_taken_is_one_sentence(
    settings: Settings, worker: FakeWorker, site: World, port: int
) -> None:
    other = settings.model_copy(update={"gpt2bot_home": settings.gpt2bot_home / "other"})
    with pytest.raises(SettingsError, match=rf"^WEB_PORT is {port} at 127.0.0.1, but that cannot"):
        async with open_site(other, worker, port):
            pass


async def test_without_a_port_there_is_no_page_and_the_picture_stays(world: World) -> None:
    told = await world.ada.slash(world.general, "growth")
    assert "my operator can open it with the setting WEB_PORT" in told.response.content
    assert told.response.embeds[0].image.url


async def test_a_page_that_was_left_open_over_a_restart(
    settings: Settings, worker: FakeWorker
) -> None:
    port = free_port()
    async with new_browser(port) as browser:
        async with open_site(settings, worker, port) as world:
            page = await sign_in(world, browser, world.ada)
            data = await browser.get(f"/s/{world.guild.id}/data")
        async with open_site(settings, worker, port) as world:
            late = await browser.get(page.url.removeprefix(browser.base))
            assert late.status == 401
            assert "I was restarted" in late.text
            assert "use the command /growth there" in late.text
            form = {"csrf": data.form("/out").fields["csrf"], "decision": "approve"}
            sent = await browser.post(f"/s/{world.guild.id}/data/1/review", form)
            assert sent.status == 401
            assert "what you had just sent was not done" in sent.text
            part = await browser.get(f"/s/{world.guild.id}/data", **{"HX-Request": "true"})
            assert part.headers["HX-Refresh"] == "true"
            assert (await sign_in(world, browser, world.ada)).status == 200
