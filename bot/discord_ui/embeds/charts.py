"""Charts, drawn by a child process: the bot never imports matplotlib."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from pathlib import Path

from core.subprocesses import child_environment, child_process
from i18n.phrase import phrase
from i18n.reader import current_language
from training.errors import ChildFailed

log = logging.getLogger(__name__)

CHART_TIMEOUT_S = 30.0
"""Seconds until a chart is given up."""
CHART_FAILED = phrase(
    "The chart could not be drawn; the numbers are not affected. The log may say why."
)


async def render_dataset_chart(
    numbers: Mapping[str, object], folder: Path, *, limit_s: float = CHART_TIMEOUT_S
) -> bytes:
    """`_render` of what `training.plots.dataset` reads."""
    return await _render("training.plots.dataset", numbers, folder, limit_s)


async def render_growth_chart(
    numbers: Mapping[str, object], folder: Path, *, limit_s: float = CHART_TIMEOUT_S
) -> bytes:
    """`_render` of what `training.plots.growth` reads."""
    return await _render("training.plots.growth", numbers, folder, limit_s)


async def _render(
    module: str, numbers: Mapping[str, object], folder: Path, limit_s: float
) -> bytes:
    """A PNG of 1200 by 600 pixels, in the current language. It is drawn to a file in `folder`.

    Raises:
        ChildFailed: the chart could not be drawn; the message says so.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            out = Path(own, "chart.png")
            told = json.dumps({"language": current_language(), **numbers}).encode()
            await _draw(module, told, out, limit_s)
            return await asyncio.to_thread(out.read_bytes)
    except TimeoutError as e:
        raise ChildFailed(
            phrase("The chart was not ready after {limit:g} s, so I gave up.", limit=limit_s)
        ) from e
    except OSError as e:
        raise ChildFailed(CHART_FAILED) from e


async def _draw(module: str, numbers: bytes, out: Path, limit_s: float) -> None:
    async with child_process(
        [sys.executable, "-m", module, str(out)],
        stdin=PIPE,
        stdout=DEVNULL,
        stderr=PIPE,
        env=child_environment() | {"MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"},
    ) as process:
        async with asyncio.timeout(limit_s):
            _, errors = await process.communicate(numbers)
    if process.returncode:
        log.warning("no chart (exit status %s): %s", process.returncode, errors.decode()[-2000:])
        raise ChildFailed(CHART_FAILED)
