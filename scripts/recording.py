"""`python -m scripts.recording`: `docs/demo.gif`, a film of the demo, taken from the demo.

A visitor greets the bot, asks it something, teaches it, retrains it and asks again. Nothing is
acted, but time is: nobody watches a computer wait, so a picture that does not change is shown
briefly, and most briefly during the training. `--language ja` makes `docs/demo.ja.gif`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops
from playwright.sync_api import Page

from scripts.page import TRAINING_S, DemoPage
from scripts.stage import browser, demo
from scripts.story import SETTINGS, Story, chosen

WIDTH, HEIGHT = 720, 740
"""The page in CSS pixels, its head included, which is not in the picture."""
SLOW_MS = 300
"""The rest before each thing done on the page, so that it can be seen; pictures keep that pace."""
LEAST_S, MOST_S, HURRY_S = 0.08, 1.6, 0.2
"""How long a picture is shown: at least, at most, and at most during a training."""
LAST_S = 4.0
CARET = 3
"""Pictures that differ in a strip of so many pixels show the same: the cursor blinks."""


class Film:
    """Pictures of a page whenever Chromium draws it anew, and how long each may be shown."""

    def __init__(self, page: Page) -> None:
        self._chrome = page.context.new_cdp_session(page)
        self._most = MOST_S
        self._shots: list[tuple[float, float, bytes]] = []

    @contextmanager
    def rolling(self) -> Iterator[None]:
        self._chrome.on("Page.screencastFrame", self._take)
        self._chrome.send("Page.startScreencast", {"format": "png"})
        yield
        self._chrome.remove_listener("Page.screencastFrame", self._take)
        self._chrome.send("Page.stopScreencast")

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        self._most = HURRY_S
        yield
        self._most = MOST_S

    def _take(self, frame: dict[str, Any]) -> None:
        at = frame["metadata"]["timestamp"]
        self._shots.append((at, self._most, base64.b64decode(frame["data"])))
        self._chrome.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    def develop(self, box: tuple[int, int, int, int]) -> list[tuple[Image.Image, float]]:
        """The part of the page in `box`, as pictures and for how many seconds each is shown."""
        scenes: list[tuple[float, float, Image.Image]] = []
        for at, most, png in self._shots:
            picture = Image.open(io.BytesIO(png)).convert("RGB").crop(box)
            if not scenes or _differ(scenes[-1][2], picture):
                scenes.append((at, most, picture))
        shown = [
            (picture, min(after - at, most))
            for (at, most, picture), (after, _, _) in pairwise(scenes)
            if after - at >= LEAST_S
        ]
        return [*shown, (scenes[-1][2], LAST_S)]


def _differ(one: Image.Image, other: Image.Image) -> bool:
    where = ImageChops.difference(one, other).getbbox()
    return where is not None and where[2] - where[0] > CARET


def main() -> None:
    story, out = chosen(__doc__, "gif")
    scenes = film(story)
    save(scenes, out)
    seconds = sum(shown for _, shown in scenes)
    print(f"{out}: {len(scenes)} pictures, {seconds:.0f} s, {out.stat().st_size / 1e6:.1f} MB")


def film(story: Story) -> list[tuple[Image.Image, float]]:
    """Go through the story on the demo's page."""
    with (
        demo(*story.demo, settings=SETTINGS) as url,
        browser(width=WIDTH, height=HEIGHT, slow_ms=SLOW_MS) as page,
    ):
        visitor, camera = DemoPage(page, url), Film(page)
        box = visitor.channel.bounding_box()
        assert box is not None
        page.screenshot()  # Chromium looks for Japanese fonts when it first draws
        with camera.rolling():
            visitor.say(story.greeting)
            _read(visitor)
            visitor.say(story.asked)
            _read(visitor)
            for question, answer in story.facts:
                visitor.run("teach", user=question, bot=answer)
                visitor.catch_up()
            _read(visitor)
            plan = visitor.run("retrain")
            _read(visitor)
            end = visitor.start_training(plan)
            visitor.catch_up()
            with camera.hurrying():
                end.wait_for(timeout=1000 * TRAINING_S)
            _read(visitor)
            story.check(visitor.say(story.asked))
            _read(visitor)
        left, top = round(box["x"]), round(box["y"])
        return camera.develop((left, top, left + round(box["width"]), top + round(box["height"])))


def _read(visitor: DemoPage) -> None:
    """Take the time that a person needs to read what is new."""
    visitor.catch_up()
    visitor.page.wait_for_timeout(1000 * MOST_S)


def save(scenes: list[tuple[Image.Image, float]], out: Path) -> None:
    """A GIF with the same colours in all pictures, so that each is only what changed."""
    palette = _strip([picture for picture, _ in scenes[:: max(1, len(scenes) // 8)]]).quantize(256)
    first, *rest = (
        picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture, _ in scenes
    )
    times = [round(1000 * shown) for _, shown in scenes]
    first.save(out, save_all=True, append_images=rest, duration=times, loop=0, optimize=False)


def _strip(pictures: list[Image.Image]) -> Image.Image:
    width, height = pictures[0].size
    strip = Image.new("RGB", (width, height * len(pictures)))
    for n, picture in enumerate(pictures):
        strip.paste(picture, (0, n * height))
    return strip


if __name__ == "__main__":
    main()
