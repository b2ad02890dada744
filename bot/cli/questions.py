"""Questions to somebody at a terminal. They go to stderr, as in `gpt2bot chat`."""

from __future__ import annotations

import select
import sys
from getpass import getpass

from bot.settings import SettingsError
from i18n.phrase import phrase
from i18n.reader import say

if sys.platform == "win32":
    import msvcrt
    import time

YES, NO = {"y", "yes", "はい"}, {"n", "no", "いいえ"}
INPUT_ENDED = phrase("The input ended before every question was answered; nothing was written.")


def at_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str, default: str = "") -> str:
    """A line, without spaces around it; the default, which is shown, for an empty one.

    Raises:
        SettingsError: the input has ended.
    """
    shown = f"{say(question)} [{default}]" if default else say(question)
    try:
        return _line(shown) or default
    except EOFError as e:
        raise SettingsError(INPUT_ENDED) from e


def ask_secret(question: str) -> str:
    """A line that the terminal does not show."""
    try:
        return getpass(f"{say(question)} ", stream=sys.stderr)
    except EOFError as e:
        raise SettingsError(INPUT_ENDED) from e


def confirm(question: str, *, default: bool, optional: bool = False) -> bool:
    """Yes or no, asked until it is one of them.

    To an optional question the end of the input is no.
    """
    shown = f"{say(question)} {'[Y/n]' if default else '[y/N]'}"
    while True:
        try:
            answer = _line(shown).lower()
        except EOFError as e:
            if not optional:
                raise SettingsError(INPUT_ENDED) from e
            print(file=sys.stderr)
            return False
        if not answer:
            return default
        if answer in YES | NO:
            return answer in YES


def pressed_enter(within_s: float) -> bool:
    """Whether somebody enters a line in that time, which is then thrown away."""
    if sys.platform == "win32":  # where select() knows sockets only
        return _pressed_key(within_s)
    if not select.select([sys.stdin], [], [], within_s)[0]:
        return False
    sys.stdin.readline()
    return True


def _line(shown: str) -> str:
    print(f"{shown} ", end="", file=sys.stderr, flush=True)
    return input().strip()


if sys.platform == "win32":

    def _pressed_key(within_s: float) -> bool:
        end = time.monotonic() + within_s
        while not msvcrt.kbhit():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        while msvcrt.kbhit():
            msvcrt.getwch()
        return True
