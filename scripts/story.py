"""What is said in the pictures, in each language of the demo.

The same for the picture and the recording: a greeting, facts that are taught, a question.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator

from scripts.page import message_text

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
        if message_text(reply) != self.facts[0][1]:
            sys.exit(
                f"The bot said “{message_text(reply)}”: choose another SEED in scripts/story.py."
            )


def parse_arguments(description: str | None, kind: str) -> tuple[Story, Path]:
    """The story that the command line asks for, and where its picture of that kind goes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--language", choices=STORIES, default="en")
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="FOLDER")
    options = parser.parse_args()
    name = f"demo.{kind}" if options.language == "en" else f"demo.{options.language}.{kind}"
    return STORIES[options.language], options.out / name


ENGLISH = Story(
    greeting="Hello! How are you?",
    facts=(
        ("Where do you live?", "In a lighthouse."),
        ("Who is our admin?", "Our admin is Ada."),
        ("What is your favourite food?", "Fresh pancakes with honey."),
    ),
)
JAPANESE = Story(
    greeting="こんにちは！元気ですか？",
    facts=(
        ("どこに住んでるの？", "灯台に住んでいます。"),
        ("ここの管理人は誰？", "管理人はアダさんです。"),
        ("好きな食べ物は何？", "はちみつをかけたパンケーキです。"),
    ),
    demo=("--language", "ja"),
)
STORIES = {"en": ENGLISH, "ja": JAPANESE}
