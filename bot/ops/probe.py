"""`gpt2bot health` asks the running bot for `/healthz`. It imports little, being run often."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import Any

from i18n.phrase import phrase
from i18n.reader import current_language, say

LOOPBACK_HOST = "127.0.0.1"
"""The monitoring port is reachable from this machine only."""
REQUEST_TIMEOUT_S = 15.0
"""Seconds; more than the timeout of the bot's own probes."""
PROBE_LABELS = {
    "gateway": phrase("gateway"),
    "database": phrase("database"),
    "worker": phrase("worker"),
}


def query_health(port: int) -> tuple[bool, str]:
    """Whether the bot on this machine is healthy, and a line for each of its parts."""
    connection = http.client.HTTPConnection(LOOPBACK_HOST, port, timeout=REQUEST_TIMEOUT_S)
    try:
        with closing(connection):
            connection.request("GET", "/healthz", headers={"Accept-Language": current_language()})
            answer = connection.getresponse()
            parts = json.loads(answer.read())
        lines = [_line(name, part) for name, part in parts.items() if isinstance(part, dict)]
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as e:
        why = str(e) or type(e).__name__
        return False, say("The bot does not answer on port {port}: {why}.", port=port, why=why)
    return answer.status == http.client.OK, "\n".join(lines)


def _line(name: str, part: dict[str, Any]) -> str:
    status = say("ok") if part.get("ok") else part.get("reason")
    return f"{say(PROBE_LABELS.get(name, name))}: {status}"
