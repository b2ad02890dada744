"""The picture of /growth, drawn here and by the real child."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.discord_ui.embeds.charts import render_growth_chart
from tests.training.plots.test_dataset import assert_is_chart
from training.plots.growth import draw_growth

DAYS = [(date(2026, 1, 1) + timedelta(days=n)).isoformat() for n in range(400)]


def checkpoint(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "day": DAYS[3], "base": 4.1, "new": 0.4, "passed": True} | more


NUMBERS: dict[str, dict[str, Any]] = {
    "nothing": {"days": [], "totals": [], "checkpoints": []},
    "one": {"days": DAYS[:1], "totals": [1], "checkpoints": [checkpoint("tiny-1")]},
    "many": {
        "days": DAYS,
        "totals": list(range(1, 401)),
        "checkpoints": [checkpoint(f"tiny-{n}", new=4.0 / n) for n in range(1, 13)],
    },
    "strange names": {
        "days": DAYS[:2],
        "totals": [1, 10**9],
        "checkpoints": [checkpoint("$x_1$ " * 20, base=None, passed=False), checkpoint("成長")],
    },
}


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("name", NUMBERS)
def test_growth_is_a_picture_with_something_on_it(name: str, language: str, tmp_path: Path) -> None:
    numbers: Any = NUMBERS[name] | {"language": language}
    draw_growth(numbers, tmp_path / "growth.png")
    assert_is_chart((tmp_path / "growth.png").read_bytes())


async def test_the_child_draws_it(tmp_path: Path) -> None:
    assert_is_chart(await render_growth_chart(NUMBERS["many"], tmp_path))
