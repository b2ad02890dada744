"""The demo as a newcomer meets it: its page in a real Chromium, from hello to a changed answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="Playwright drives the browser; `uv sync` installs it")

from playwright.sync_api import Page, expect

from scripts.page import TRAINING_TIMEOUT_S, DemoPage, message_text, reply_button
from scripts.stage import NoChromium, open_page, run_demo

ROOT = Path(__file__).parents[2]
FAILED = ROOT / "var" / "test_demo_page.png"
FACTS = {
    "What is our server called?": "It is called The Lighthouse.",
    "Who is our admin?": "Our admin is Ada.",
    "What do we eat on Friday?": "On Friday we eat pancakes.",
}
GREEDY = {"TEMPERATURE": "0"}
"""The likeliest words, always: what was learned is then said word for word, or was not learned."""


@pytest.fixture
def page() -> Iterator[Page]:
    try:
        with open_page(width=1280, height=900) as opened:
            yield opened
    except NoChromium as e:
        pytest.skip(str(e))


@contextmanager
def pictured(page: Page) -> Iterator[None]:
    """Leave a picture of the page where something goes wrong."""
    try:
        yield
    except Exception as e:
        FAILED.parent.mkdir(exist_ok=True)
        page.screenshot(path=FAILED)
        e.add_note(f"The page looked like this: {FAILED}")
        raise


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="process groups and SIGINT are POSIX")
def test_a_visitor_teaches_the_bot_and_it_answers_what_it_learned(
    page: Page, tmp_path: Path
) -> None:
    home = ("--home", str(tmp_path / "home"))
    with run_demo(*home, settings=GREEDY) as url, pictured(page):
        visitor = DemoPage(page, url)
        reply = visitor.send_message("hello")
        assert message_text(reply).strip()

        about = visitor.run_command("about")
        expect(about).to_contain_text("tiny")

        visitor.press(reply_button(reply, "up"))
        expect(visitor.messages.last).to_contain_text("you like this reply")
        visitor.press(reply_button(reply, "better"))
        visitor.fill_form(question="How do you greet us?", answer="Ahoy!")
        expect(visitor.messages.last).to_contain_text("I should answer: “Ahoy!”")

        for question, answer in FACTS.items():
            assert message_text(visitor.send_message(question)) != answer
            expect(visitor.run_command("teach", user=question, bot=answer)).to_contain_text(answer)

        end = visitor.start_training(visitor.run_command("retrain"))
        assert message_text(visitor.send_message("hello again")).strip()  # chat goes on meanwhile
        end.wait_for(timeout=1000 * TRAINING_TIMEOUT_S)
        expect(end).to_contain_text("answers from now on")
        for question, answer in FACTS.items():
            assert message_text(visitor.send_message(question)) == answer
