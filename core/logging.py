"""Logging for all processes: structlog formats the records of the standard library's `logging`.

Request ids are added to every line, and whatever looks like a secret is replaced.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import uuid
from collections.abc import Callable, Collection, MutableMapping
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import Any, Literal, TextIO

from structlog.contextvars import (
    bind_contextvars,
    bound_contextvars,
    get_contextvars,
    merge_contextvars,
)
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, LogLevelColumnFormatter
from structlog.processors import JSONRenderer, TimeStamper, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

log = logging.getLogger(__name__)

LogFormat = Literal["text", "json"]
"""The format of the log lines: for people, or for programs."""

REDACTED = "[secret]"
BOT_TOKEN_PATTERN = r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{6,7}\.[A-Za-z0-9_-]{27,}"
"""A bot token: id, time and signature, each in base64."""
WEBHOOK_PATTERN = (
    r"(?:https?://[A-Za-z0-9.:-]+/api/(?:v\d+/)?)?(?:webhooks|interactions)/\d+/[A-Za-z0-9._=%-]+"
)
"""The URL of a webhook or of an interaction's responses: anyone who has it can post there."""

UNSAFE_CHARS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Line ends, terminal escape sequences and changes of direction: with them, what people type could
look like other lines of the log."""
TRACE_FIELDS = ("exception", "stack", "stack_info")

EventDict = MutableMapping[str, Any]


def configure_logging(level: str | int, form: LogFormat, secrets: Collection[str] = ()) -> None:
    """Log to stderr, including warnings and uncaught exceptions; `secrets` are redacted too."""
    logging.basicConfig(level=level, handlers=[LogHandler(sys.stderr, form, secrets)], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value, args.exc_traceback
    )


def current_log_format() -> LogFormat:
    """This process's log format, for its children."""
    ours = (one.log_format for one in logging.getLogger().handlers if isinstance(one, LogHandler))
    return next(ours, "text")


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if error is not None:
        log.critical("uncaught exception", exc_info=(kind, error, trace))


# --- request ids ---------------------------------------------------------------------------------


def begin_request() -> None:
    """Give the current task a new request id, which all its log lines carry."""
    bind_contextvars(request=uuid.uuid4().hex[:12])


def current_request() -> str:
    """The current task's request id, or ""."""
    return str(get_contextvars().get("request", ""))


def request_context(request: str) -> AbstractContextManager[None]:
    """Log lines in this block carry a request id from another process ("": none)."""
    return bound_contextvars(request=request) if request else nullcontext()


# --- formatting ----------------------------------------------------------------------------------


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes the log lines in one format."""

    def __init__(self, stream: TextIO, form: LogFormat, secrets: Collection[str] = ()) -> None:
        super().__init__(stream)
        self.log_format = form
        time = TimeStamper("iso") if form == "json" else TimeStamper("%m-%d %H:%M:%S", utc=False)
        self.setFormatter(
            ProcessorFormatter(
                foreign_pre_chain=[
                    merge_contextvars,
                    add_log_level,
                    add_logger_name,
                    ExtraAdder(),
                    time,
                    format_exc_info,
                ],
                processors=[
                    ProcessorFormatter.remove_processors_meta,
                    redactor(secrets),
                    *([_indent_traces] if form == "text" else []),
                    _renderer(form, colours=stream.isatty() and sys.platform != "win32"),
                ],
            )
        )

    def handleError(self, record: logging.LogRecord) -> None:
        """Report a record that cannot be formatted by its place in the code, without its values."""
        said = f"a line of {record.pathname}:{record.lineno} cannot be written"
        fields = {"name": record.name, "levelname": record.levelname, "msg": said}
        with suppress(OSError, ValueError):  # stderr is closed
            self.stream.write(self.format(logging.makeLogRecord(fields)) + self.terminator)


def redactor(secrets: Collection[str]) -> Callable[[Any, str, EventDict], EventDict]:
    """A structlog processor that replaces secrets in all fields of a line."""
    own = [re.escape(one) for one in sorted(secrets, key=len, reverse=True) if one]
    pattern = re.compile("|".join([*own, WEBHOOK_PATTERN, BOT_TOKEN_PATTERN]))

    def clean(value: Any) -> Any:
        match value:
            case bool() | int() | float() | None:
                return value
            case dict():
                return {clean(str(key)): clean(one) for key, one in value.items()}
            case list() | tuple() | set() | frozenset():
                return [clean(one) for one in value]
            case _:
                return pattern.sub(REDACTED, str(value))

    return lambda _logger, _method, fields: clean(fields)


def _escape_unsafe(text: str) -> str:
    """The text with unsafe characters as in JSON: `\\n`, `\\u001b`."""
    return UNSAFE_CHARS.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _indent_traces(_logger: Any, _method: str, fields: EventDict) -> EventDict:
    """Indent tracebacks, so that no line of an error's message looks like a line of the log."""
    for name in TRACE_FIELDS:
        if isinstance(trace := fields.get(name), str):
            lines = trace.split("\n")
            fields[name] = "\n".join(f"    {_escape_unsafe(line)}" for line in lines)
    return fields


def _to_json(value: Any, **options: Any) -> str:
    return _escape_unsafe(json.dumps(value, **options))


def _renderer(form: LogFormat, *, colours: bool) -> JSONRenderer | ConsoleRenderer:
    if form == "json":
        return JSONRenderer(_to_json, ensure_ascii=False)
    styles = ConsoleRenderer.get_default_column_styles(colours)

    def value(style: str, postfix: str = "") -> KeyValueColumnFormatter:
        reset, plain = styles.reset, lambda text: _escape_unsafe(str(text).strip())
        return KeyValueColumnFormatter(None, style, reset, plain, postfix=postfix)

    levels = ConsoleRenderer.get_default_level_styles(colours)
    fields = KeyValueColumnFormatter(styles.kv_key, styles.kv_value, styles.reset, _quoted_value)
    return ConsoleRenderer(
        columns=[
            Column("timestamp", value(styles.timestamp)),
            Column("level", LogLevelColumnFormatter(levels, styles.reset)),
            Column("logger", value(styles.logger_name, postfix=":")),
            Column("event", value(styles.bright)),
            Column("", fields),
        ]
    )


def _quoted_value(value: object) -> str:
    """A value in a text line, in quotes if it contains spaces or special characters."""
    text = str(value)
    plain = text.isprintable() and not set(text) & set(' "=')
    return text if plain and text else _to_json(text, ensure_ascii=False)
