"""`gpt2bot health`: asks the running bot whether it is well, for container health checks.

Knows /healthz. Imports little: it is called again and again.
"""

from __future__ import annotations

import http.client
import json
from typing import Any

HERE = "127.0.0.1"
"""Where the bot answers: this machine alone."""
ANSWER_S = 15.0
"""Seconds that the bot gets; each part of it has less."""


def ask(port: int) -> tuple[bool, str]:
    """Whether the bot on this machine is well, and how each part of it is, in a line each."""
    connection = http.client.HTTPConnection(HERE, port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        found = json.loads(answer.read())
        lines = [_line(name, part) for name, part in found.items() if isinstance(part, dict)]
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as e:
        return False, f"The bot does not answer on port {port}: {e or type(e).__name__}."
    finally:
        connection.close()
    return answer.status == http.client.OK, "\n".join(lines)


def _line(name: str, part: dict[str, Any]) -> str:
    return f"{name}: {'well' if part.get('ok') else part.get('reason')}"
