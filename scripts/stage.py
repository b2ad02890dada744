"""The demo as a process, and a Chromium to look at it. Knows neither the page nor the bot."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DEMO_COMMAND = (sys.executable, "-m", "bot")
"""The command `gpt2bot` of this checkout."""
START_TIMEOUT_S = 120.0
"""Seconds until the demo must have said where its page is."""
STOP_TIMEOUT_S = 30.0


class NoChromium(Exception):
    """There is no browser; the message says what to do."""


class DemoEnded(Exception):
    """The demo did not get as far as its page."""


@contextmanager
def run_demo(
    *options: str,
    settings: Mapping[str, str] | None = None,
    command: Sequence[str] = DEMO_COMMAND,
    folder: Path | None = None,
) -> Iterator[str]:
    """Run `gpt2bot demo` in that folder (one without `.env`, if none is given); its page's address.

    It has a process group of its own, as in a terminal, so Ctrl-C reaches all of it at the end.

    Raises:
        DemoEnded: there is no page, see what it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="gpt2bot-stage-") as empty:
        process = subprocess.Popen(
            [*command, "demo", "--no-browser", *options],
            cwd=folder or empty,
            env={**os.environ, **(settings or {})},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield _address(process)
        finally:
            _stop(process)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    late = threading.Timer(START_TIMEOUT_S, _signal, (process, signal.SIGKILL))
    late.start()
    try:
        for line in process.stdout:
            if url := re.search(r"http://\S+", line):
                return url[0]
    finally:
        late.cancel()
    raise DemoEnded("The demo did not open its page.")


def _stop(process: subprocess.Popen[str]) -> None:
    _signal(process, signal.SIGINT)
    try:
        process.communicate(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.communicate()


def _signal(process: subprocess.Popen[str], which: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, which)


@contextmanager
def open_page(*, width: int, height: int, scale: float = 1, slow_ms: float = 0) -> Iterator[Page]:
    """A page of that size in Chromium; `slow_ms` is a rest before each thing done on it.

    Raises:
        NoChromium: there is none.
    """
    with sync_playwright() as playwright:
        path = chromium_path(playwright.chromium.executable_path)
        chromium = playwright.chromium.launch(executable_path=path, slow_mo=slow_ms)
        size = ViewportSize(width=width, height=height)
        yield chromium.new_page(viewport=size, device_scale_factor=scale)
        chromium.close()


def chromium_path(own: str) -> str:
    """The system's Chromium, or Playwright's `own`, if it was downloaded.

    Raises:
        NoChromium: there is none.
    """
    for name in (*BROWSERS, own):
        if (path := shutil.which(name)) and _runs(path):
            return path
    raise NoChromium(
        "There is no Chromium: install it as your system does (on Debian: apt-get install "
        "chromium), or run `uv run playwright install chromium`."
    )


def _runs(path: str) -> bool:
    """Whether it is a browser: Ubuntu has a script of that name, which only tells of a snap."""
    return subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0
