"""Plots in Japanese on a machine that has no fonts: a letter that is missing fails these tests."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest

from bot.discord_ui.embeds.charts import render_dataset_chart
from i18n.catalogue import ENGLISH, JAPANESE, LANGUAGES
from i18n.reader import use_language
from training.plots import dataset as charts
from training.plots import fonts
from training.plots import loss as curve
from training.plots.style import truncate

HISTORY = [{"step": n, "loss": 3.0 / (n + 1)} for n in range(20)]
NUMBERS = {
    "lengths_user": [12, 90_000] * 60,
    "lengths_bot": [40] * 120,
    "by_source": {"": 1, "教える": 9, "よくある質問とその答えを集めたもの（改訂版）": 4}
    | {f"出所{n}": 1 for n in range(9)},
    "by_status": {"承認済み": 100, "確認待ち": 20},
}
NOTHING = {"lengths_user": [], "lengths_bot": [], "by_source": {}, "by_status": {}}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "FALLBACK_FONTS", [])


@pytest.mark.parametrize("numbers", [NUMBERS, NOTHING])
def test_a_chart_has_all_its_letters_in_each_language(
    numbers: dict[str, object], tmp_path: Path
) -> None:
    drawn = set()
    for language in LANGUAGES:
        charts.draw_chart({"language": language, **numbers}, tmp_path / "chart.png")  # type: ignore[typeddict-item]
        drawn.add((tmp_path / "chart.png").read_bytes())
    assert len(drawn) == len(LANGUAGES)


def test_a_loss_curve_has_all_its_letters_in_each_language(tmp_path: Path) -> None:
    drawn = set()
    for language in LANGUAGES:
        curve.draw_loss_curve(HISTORY, tmp_path / "loss.png", title="猫-$1$ 号", language=language)
        drawn.add((tmp_path / "loss.png").read_bytes())
    assert len(drawn) == len(LANGUAGES)


def test_a_missing_letter_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "font_families", lambda: ["DejaVu Sans"])
    with pytest.raises(UserWarning, match="missing from font"):
        curve.draw_loss_curve(HISTORY, tmp_path / "loss.png", title="猫")


def test_the_fonts_of_other_plots_stay(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    curve.draw_loss_curve(HISTORY, tmp_path / "loss.png", title="a")
    assert dict(mpl.rcParams) == before


async def test_the_child_is_told_who_reads(tmp_path: Path) -> None:
    drawn = []
    for language in (ENGLISH, JAPANESE):
        with use_language(language):
            drawn.append(await render_dataset_chart(NUMBERS, tmp_path))
    english, japanese = drawn
    assert japanese != english


def test_a_long_name_is_cut_by_the_room_it_takes() -> None:
    cut = truncate("よくある質問とその答え", 10)
    assert cut == "よくある…"
    assert truncate("often asked", 10) == "often ask…"
    assert truncate("often\nasked", 11) == "often asked"
