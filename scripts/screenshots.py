"""`python -m scripts.screenshots`: `docs/demo.png`, a picture of the demo, taken from the demo.

On the left a visitor greets the bot, asks, teaches and starts a training; on the right is what came
of it, and the changed answer. `--language ja` makes `docs/demo.ja.png`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image
from playwright.sync_api import FloatRect

from scripts.page import TRAINING_TIMEOUT_S, DemoPage
from scripts.stage import open_page, run_demo
from scripts.story import SETTINGS, Story, parse_arguments

COLUMN, HEIGHT, EDGE = 560, 3200, 16
"""The page in CSS pixels: two columns are about as wide as a README; all of the talk is on it."""
SCALE = 1.5
"""Pixels of the picture for each of the page's, for screens that have more of them."""
GAP = 24
"""Pixels around the columns."""
WELCOME, RESULT = 2, 4
"""Messages that the page begins with, and that are on the right: the training's two, the question
and its answer."""
BOXES = "all => all.map(one => one.getBoundingClientRect().toJSON())"


def main() -> None:
    story, out = parse_arguments(__doc__, "png")
    picture = take(story)
    picture.save(out, optimize=True)
    print(f"{out}: {picture.width} x {picture.height}")


def take(story: Story) -> Image.Image:
    """Go through the story on the demo's page; the two columns of the picture."""
    with (
        run_demo(*story.demo, settings=SETTINGS) as url,
        open_page(width=COLUMN, height=HEIGHT, scale=SCALE) as page,
    ):
        visitor = DemoPage(page, url)
        visitor.send_message(story.greeting)
        visitor.send_message(story.asked)
        for question, answer in story.facts:
            visitor.run_command("teach", user=question, bot=answer)
        end = visitor.start_training(visitor.run_command("retrain"))
        end.wait_for(timeout=1000 * TRAINING_TIMEOUT_S)
        story.check(visitor.send_message(story.asked))
        boxes = visitor.messages.evaluate_all(BOXES)
        columns = (boxes[WELCOME:-RESULT], boxes[-RESULT:])
        shots = [page.screenshot(clip=_around(column)) for column in columns]
    return _side_by_side([Image.open(io.BytesIO(shot)).convert("RGB") for shot in shots])


def _around(boxes: Sequence[FloatRect]) -> FloatRect:
    """The part of the page that those messages take, without its edges, where it has shadows."""
    top, bottom = boxes[0]["y"], boxes[-1]["y"] + boxes[-1]["height"]
    return FloatRect(x=EDGE, y=top, width=COLUMN - 2 * EDGE, height=bottom - top)


def _side_by_side(columns: list[Image.Image]) -> Image.Image:
    width = sum(one.width + GAP for one in columns) + GAP
    height = max(one.height for one in columns) + 2 * GAP
    joined = Image.new("RGB", (width, height), columns[0].getpixel((columns[0].width - 1, 0)))
    x = GAP
    for one in columns:
        joined.paste(one, (x, GAP))
        x += one.width + GAP
    return joined


if __name__ == "__main__":
    main()
