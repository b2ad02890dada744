"""Ctrl-C in the terminal: it ends what runs, without a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

EXIT_INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it (128 + SIGINT)."""


@contextmanager
def quiet_interrupt() -> Iterator[None]:
    """End on Ctrl-C without a word."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
