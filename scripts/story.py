"""What is said in the pictures, in each language of the demo.

The same for the picture and the recording: a greeting, facts that are taught, a question.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from playwright.sync_api import Locator

from scripts.page import words

SETTINGS = {"SEED": "7"}
"""Replies as lively as anybody's, but the same ones whenever the pictures are taken again."""


@dataclass(frozen=True, slots=True)
class Story:
    """A conversation; the first question of the `facts` is asked before and after."""

    greeting: str
    facts: tuple[tuple[str, str], ...]
    demo: tuple[str, ...] = ()
    """Options of the demo that make it speak the language."""

    @property
    def asked(self) -> str:
        return self.facts[0][0]

    def check(self, reply: Locator) -> None:
        """End it all where the bot did not learn that answer: that would be no picture of it."""
        if words(reply) != self.facts[0][1]:
            sys.exit(f"The bot said “{words(reply)}”: choose another SEED in scripts/story.py.")


ENGLISH = Story(
    greeting="Hello! How are you?",
    facts=(
        ("Where do you live?", "In a lighthouse."),
        ("Who is our admin?", "Our admin is Ada."),
        ("What is your favourite food?", "Fresh pancakes with honey."),
    ),
)
STORIES = {"en": ENGLISH, "ja": replace(ENGLISH, demo=("--language", "ja"))}
"""With `tiny` people talk English, also where the bot's own words are Japanese."""
