"""Ports for servers of tests."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

BELOW_EPHEMERAL = range(20_000, 32_000)
"""The system gives none of these to whoever asks for any port, or connects to somewhere: a port of
its own choice may be somebody else's again before a test's server takes it."""


def free_port() -> int:
    """A port of this machine that nobody uses."""
    for port in random.sample(BELOW_EPHEMERAL, len(BELOW_EPHEMERAL)):
        with suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
