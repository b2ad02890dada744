"""Opening a page of Discord in the browser of whoever sits at the terminal, if they want that."""

from __future__ import annotations

import os
import sys
import webbrowser

from bot.cli.questions import confirm
from i18n.phrase import phrase
from i18n.reader import say


def offer_page(url: str, *, wanted: bool | None) -> None:
    """Open a page, the address of which is on the screen already.

    Args:
        url: The page.
        wanted: Whether to open it; None asks.
    """
    if wanted is False or not _has_display():
        return
    question = phrase("Open that page in your browser?")
    if wanted or confirm(question, default=True, optional=True):
        try:
            opened = webbrowser.open(url)
        except (webbrowser.Error, OSError):
            opened = False
        if not opened:
            print(say("No browser could be opened: open the page yourself."))


def _has_display() -> bool:
    """Whether a browser would have a window: over SSH it would open elsewhere, and without a
    display it would be a text browser, which takes the terminal."""
    if "SSH_CONNECTION" in os.environ:
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
