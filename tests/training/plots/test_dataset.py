"""The picture of a data set, drawn here and by the real child."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bot.discord_ui.embeds.charts import render_dataset_chart
from training.errors import ChildFailed
from training.plots.dataset import draw_chart

ROOT = Path(__file__).parents[3]
RANDOM = random.Random(0)
LENGTHS = [int(RANDOM.lognormvariate(4, 1)) for _ in range(100_000)]
NUMBERS = {
    "nothing": ([], {}),
    "one": ([12], {"teach": 1}),
    "many": (LENGTHS, {f"source {n}": 10**n for n in range(12)}),
    "an outlier": ([*LENGTHS[:100], 10_000_000], {"$x_1$ " + "long " * 50: 5, "": 1, "いいね": 2}),
}


def numbers(lengths: list[int], by_source: dict[str, int]) -> Any:
    return {
        "lengths_user": lengths,
        "lengths_bot": lengths[::-1],
        "by_source": by_source,
        "by_status": {"accepted": len(lengths), "waiting": 0},
    }


@pytest.mark.parametrize("name", NUMBERS)
def test_a_chart_is_a_picture_with_something_on_it(name: str, tmp_path: Path) -> None:
    draw_chart(numbers(*NUMBERS[name]) | {"language": "en"}, tmp_path / "chart.png")
    assert_is_chart((tmp_path / "chart.png").read_bytes())


async def test_the_child_draws_many_numbers(tmp_path: Path) -> None:
    assert_is_chart(await render_dataset_chart(numbers(*NUMBERS["many"]), tmp_path))


def assert_is_chart(png: bytes) -> None:
    with Image.open(io.BytesIO(png)) as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (900, 1080))
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 20


async def test_numbers_that_cannot_be_drawn_give_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="could not be drawn"):
        await render_dataset_chart({"lengths_user": "no"}, tmp_path)


async def test_a_child_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="not ready"):
        await render_dataset_chart(numbers(*NUMBERS["one"]), tmp_path, limit_s=0.01)


def test_the_bots_side_imports_no_matplotlib() -> None:
    code = "import sys; from bot.discord_ui.embeds import charts, cleaning; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"matplotlib", "numpy"}.isdisjoint(done.stdout.split())
