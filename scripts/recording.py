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

from scripts.page import TRAINING_TIMEOUT_S, DemoPage
from scripts.stage import open_page, run_demo
from scripts.story import SETTINGS, Story, parse_arguments

WIDTH, HEIGHT = 720, 740
"""The page in CSS pixels, its head included, which is not in the picture."""
SLOW_MS = 300
"""The rest before each thing done on the page, so that it can be seen; pictures keep that pace."""
MIN_FRAME_S, MAX_FRAME_S, FAST_FRAME_S = 0.08, 1.6, 0.2
"""How long a picture is shown: at least, at most, and at most during a training."""
LAST_S = 4.0
CURSOR_WIDTH_PX = 3
"""Pictures that differ in a strip of so many pixels show the same: the cursor blinks."""


class ScreenRecorder:
    """Pictures of a page whenever Chromium draws it anew, and how long each may be shown."""

    def __init__(self, page: Page) -> None:
        self._chrome = page.context.new_cdp_session(page)
        self._most = MAX_FRAME_S
        self._shots: list[tuple[float, float, bytes]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        self._chrome.on("Page.screencastFrame", self._take)
        self._chrome.send("Page.startScreencast", {"format": "png"})
        yield
        self._chrome.remove_listener("Page.screencastFrame", self._take)
        self._chrome.send("Page.stopScreencast")

    @contextmanager
    def fast_forward(self) -> Iterator[None]:
        self._most = FAST_FRAME_S
        yield
        self._most = MAX_FRAME_S

    def _take(self, frame: dict[str, Any]) -> None:
        at = frame["metadata"]["timestamp"]
        self._shots.append((at, self._most, base64.b64decode(frame["data"])))
        self._chrome.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    def frames(self, box: tuple[int, int, int, int]) -> list[tuple[Image.Image, float]]:
        """The part of the page in `box`, as pictures and for how many seconds each is shown."""
        scenes: list[tuple[float, float, Image.Image]] = []
        for at, most, png in self._shots:
            picture = Image.open(io.BytesIO(png)).convert("RGB").crop(box)
            if not scenes or _differ(scenes[-1][2], picture):
                scenes.append((at, most, picture))
        shown = [
            (picture, min(after - at, most))
            for (at, most, picture), (after, _, _) in pairwise(scenes)
            if after - at >= MIN_FRAME_S
        ]
        return [*shown, (scenes[-1][2], LAST_S)]


def _differ(one: Image.Image, other: Image.Image) -> bool:
    where = ImageChops.difference(one, other).getbbox()
    return where is not None and where[2] - where[0] > CURSOR_WIDTH_PX


def main() -> None:
    story, out = parse_arguments(__doc__, "gif")
    scenes = record_story(story)
    save(scenes, out)
    seconds = sum(shown for _, shown in scenes)
    print(f"{out}: {len(scenes)} pictures, {seconds:.0f} s, {out.stat().st_size / 1e6:.1f} MB")


def record_story(story: Story) -> list[tuple[Image.Image, float]]:
    """Go through the story on the demo's page."""
    with (
        run_demo(*story.demo, settings=SETTINGS) as url,
        open_page(width=WIDTH, height=HEIGHT, slow_ms=SLOW_MS) as page,
    ):
        visitor, camera = DemoPage(page, url), ScreenRecorder(page)
        box = visitor.channel.bounding_box()
        assert box is not None
        page.screenshot()  # Chromium looks for Japanese fonts when it first draws
        with camera.recording():
            visitor.send_message(story.greeting)
            _read(visitor)
            visitor.send_message(story.asked)
            _read(visitor)
            for question, answer in story.facts:
                visitor.run_command("teach", user=question, bot=answer)
                visitor.scroll_to_newest()
            _read(visitor)
            plan = visitor.run_command("retrain")
            _read(visitor)
            end = visitor.start_training(plan)
            visitor.scroll_to_newest()
            with camera.fast_forward():
                end.wait_for(timeout=1000 * TRAINING_TIMEOUT_S)
            _read(visitor)
            story.check(visitor.send_message(story.asked))
            _read(visitor)
        left, top = round(box["x"]), round(box["y"])
        return camera.frames((left, top, left + round(box["width"]), top + round(box["height"])))


def _read(visitor: DemoPage) -> None:
    """Take the time that a person needs to read what is new."""
    visitor.scroll_to_newest()
    visitor.page.wait_for_timeout(1000 * MAX_FRAME_S)


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
