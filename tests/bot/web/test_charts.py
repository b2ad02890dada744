"""Charts as tables: which points of many are shown."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from bot.web.charts import MAX_DAYS, totals_chart

FIRST = date(2024, 1, 2)


@pytest.mark.parametrize("days", [1, 2, MAX_DAYS - 1, MAX_DAYS, MAX_DAYS + 1, 7 * MAX_DAYS])
def test_a_chart_of_many_days_has_the_first_and_the_last(days: int) -> None:
    totals = [(FIRST + timedelta(n), n + 1) for n in range(days)]
    chart = totals_chart(totals, "What was taught")
    assert chart is not None
    shown = [one.label for one in chart.rows]
    assert shown == sorted(set(shown))
    assert (shown[0], shown[-1]) == (totals[0][0], totals[-1][0])
    assert min(days, MAX_DAYS / 2) <= len(shown) <= MAX_DAYS
