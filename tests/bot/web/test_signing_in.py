"""Signing in to the page, by everybody who may and by those who may not."""

from __future__ import annotations

from tests.bot.conftest import World
from tests.bot.web.browser import Browser, sign_in


async def test_a_manager_signs_in_with_the_link(site: World, browser: Browser) -> None:
    page = await sign_in(site, browser, site.ada)
    assert (page.status, page.url) == (200, f"{browser.base}/s/{site.guild.id}")
    assert "Nothing was taught yet" in page.text
    assert (await browser.get("/")).url == page.url
