"""How a line of the log looks, what it is about, and that no secret is in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.logging import (
    REDACTED,
    LogFormat,
    LogHandler,
    begin_request,
    current_request,
    redactor,
    request_context,
)

ROOT = Path(__file__).parents[2]
TOKEN = "MTA0NTY3ODkwMTIzNDU2Nzg5MA" + ".GhIjKl." + "aB3_-" * 7 + "xyz"
OWN = "hunter2 (the token)"
WEBHOOK = "https://discord.com/api/webhooks/123456/Ab-c_9"
ANSWER = "https://discord.com/api/v10/interactions/123456/aW50ZXJhY3Rpb24=/callback"
SECRETS = (TOKEN, OWN, WEBHOOK, ANSWER)


class Log(io.StringIO):
    """What was written."""

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@contextmanager
def written(form: LogFormat, *names: str) -> Iterator[Log]:
    """The lines of these loggers, in their form."""
    log = Log()
    handler = LogHandler(log, form, [OWN])
    loggers = [logging.getLogger(name) for name in names or ("tests.logs",)]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.DEBUG)
        one.propagate = False
    try:
        yield log
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.removeHandler(handler)
            one.setLevel(level)
            one.propagate = True


log = logging.getLogger("tests.logs")


def test_json_is_one_object_a_line_with_its_fields() -> None:
    with written("json") as out:
        log.info("%d of %s", 3, "many", extra={"model": "tiny", "first_s": 0.2})
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("failed")
    first, second = out.lines
    assert first["event"] == "3 of many"
    assert (first["model"], first["first_s"]) == ("tiny", 0.2)
    assert (first["level"], first["logger"]) == ("info", "tests.logs")
    assert first["timestamp"].endswith("Z")
    assert "request" not in first
    assert second["exception"].startswith("Traceback")
    assert "ValueError: two\nlines" in second["exception"]


def test_text_is_a_line_without_colours_where_there_is_no_terminal() -> None:
    with written("text") as out:
        log.warning("careful", extra={"said": 'a "b" c', "model": "tiny", "raw": "\x1b[31m"})
    line = out.getvalue()
    assert "\x1b" not in line
    assert line[15:].startswith("[warning  ] tests.logs: careful ")
    assert r'model=tiny raw="\u001b[31m" said="a \"b\" c"' in line


@pytest.mark.parametrize("form", ["text", "json"])
@given(st.text(st.sampled_from("a\n\r\x0b\x1b\x7f\x85\x9b\u2028\u2029\u202e\u2066é"), min_size=1))
def test_what_people_type_stays_in_its_line(form: LogFormat, typed: str) -> None:
    with written(form) as out:
        log.info("they said %s.", typed, extra={"said": typed, "deep": [typed]})
        try:
            raise ValueError(typed)
        except ValueError:
            log.exception("failed")
    lines = out.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    if form == "json":
        assert [json.loads(line)["event"] for line in lines] == [f"they said {typed}.", "failed"]
    else:
        assert [line for line in lines if not line.startswith("    ")] == [lines[0], lines[1]]


def test_a_line_that_cannot_be_made_shows_nothing_of_what_it_has() -> None:
    with written("json") as out:
        log.error("%d", TOKEN)
    [line] = out.lines
    assert "cannot be written" in line["event"]
    assert line["level"] == "error"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_in_a_line_whoever_wrote_it(form: LogFormat) -> None:
    with written(form, "tests.logs", "discord.http", "discord.client", "aiohttp.server") as out:
        for secret in SECRETS:
            log.info("message %s", secret)
            log.info(f"glued:{secret}!")
            log.info("%r", {"nested": f"one\n{secret}"}, extra={"field": [{"deep": secret}]})
            log.error("with its stack", stack_info=True, extra={"object": Exception(secret)})
            try:
                raise RuntimeError(f"cause\n{secret}")
            except RuntimeError:
                log.exception("failed")
        http = logging.getLogger("discord.http")
        http.warning("We are being rate limited. %s %s responded with 429.", "POST", WEBHOOK)
        http.debug("%s %s with %s has returned %s", "POST", ANSWER, {"token": TOKEN}, 204)
        logging.getLogger("discord.client").info("logging in with %s", TOKEN)
    text = out.getvalue()
    assert text.count(REDACTED) >= 5 * len(SECRETS)
    for secret in (*SECRETS, "Ab-c_9", "aW50ZXJhY3Rpb24"):
        assert secret not in text
    if form == "json":
        assert len(out.lines) == 5 * len(SECRETS) + 3


@given(before=st.text(max_size=8), after=st.text(max_size=8))
def test_a_token_is_found_in_whatever_stands_around_it(before: str, after: str) -> None:
    cleaned = redactor([])(None, "", {"event": f"{before}{TOKEN}{after}"})["event"]
    assert TOKEN not in cleaned
    assert "GhIjKl" not in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "tiny-3 of 1234567890123456789 answers in 0.618 s",
        "/srv/models/a-folder-with-a-long-name/model.safetensors",
        "bot.chat.manager.ConversationManager",
        "https://discord.com/developers/applications",
        "3f786850e387550fdab836ed7e6dc881de23001b",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redactor(["", "hunter2"])(None, "", {"event": text}) == {"event": text}


def test_lines_are_about_the_request_that_is_spoken_of() -> None:
    with written("json") as out:
        with request_context("abc"):
            log.info("one")
        log.info("two")
        with request_context(""):
            log.info("three")
    assert [line.get("request") for line in out.lines] == ["abc", None, None]


async def test_each_task_has_a_request_of_its_own() -> None:
    async def one() -> str:
        begin_request()
        await asyncio.sleep(0)
        return current_request()

    first, second = await asyncio.gather(one(), one())
    assert first
    assert second
    assert first != second
    assert current_request() == ""


CRASH = """
import sys, threading, warnings
from core.logging import configure_logging, current_log_format
configure_logging("INFO", "json", ["hunter2"])
assert current_log_format() == "json"
warnings.warn("a warning with hunter2")
thread = threading.Thread(target=lambda: int("hunter2"))
thread.start()
thread.join()
raise SystemError("hunter2")
"""


def test_errors_that_nobody_caught_are_lines_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    warning, thread, end = map(json.loads, done.stderr.splitlines())
    assert warning["logger"] == "py.warnings"
    assert "ValueError" in thread["exception"]
    assert f"SystemError: {REDACTED}" in end["exception"]
    assert "hunter2" not in done.stderr
