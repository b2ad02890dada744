"""Questions to somebody at a terminal. They go to stderr, as in `gpt2bot chat`."""

from __future__ import annotations

import sys
from getpass import getpass

from bot.settings import SettingsError
from i18n.phrase import phrase
from i18n.reader import say

YES, NO = {"y", "yes", "はい"}, {"n", "no", "いいえ"}
INPUT_ENDED = phrase("The input ended before every question was answered; nothing was written.")


def at_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str, default: str = "", *, optional: bool = False) -> str:
    """A line, without spaces around it; the default, which is shown, for an empty one.

    To an optional question the end of the input is an empty line.
    """
    shown = f"{say(question)} [{default}] " if default else f"{say(question)} "
    print(shown, end="", file=sys.stderr, flush=True)
    try:
        return input().strip() or default
    except EOFError as e:
        if not optional:
            raise SettingsError(INPUT_ENDED) from e
        print(file=sys.stderr)
        return default


def ask_secret(question: str) -> str:
    """A line that the terminal does not show."""
    try:
        return getpass(f"{say(question)} ", stream=sys.stderr)
    except EOFError as e:
        raise SettingsError(INPUT_ENDED) from e


def confirm(question: str, *, default: bool, optional: bool = False) -> bool:
    """Yes or no, asked until it is one of them."""
    shown = f"{say(question)} {'[Y/n]' if default else '[y/N]'}"
    while True:
        answer = ask(shown, optional=optional).lower()
        if not answer:
            return default
        if answer in YES | NO:
            return answer in YES
