"""A conversation in the terminal: replies on stdout, everything else on stderr.

Knows the worker's client and the registry. Does not know Discord, nor the store: what is said here
is forgotten at the end.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from contextlib import aclosing, suppress
from typing import TextIO

from bot.settings import Settings, sampling_params, worker_settings
from core.records import Message, Role
from i18n.phrase import message_of, phrase
from i18n.reader import say
from model.backend import GenerationBackend
from model.errors import LoadFailed, ModelError
from model.registry import (
    EMBEDDED_NAME,
    ModelOption,
    fallback_message,
    find_option,
    model_options,
    with_custom_models,
)
from model.worker.client import WorkerClient
from model.worker.messages import Finished, TextDelta

PROMPT = phrase("you> ")
TERMINAL_CHANNEL_ID = 1
"""The conversation's name in the worker, which talks with nobody else."""
DRAIN_TIMEOUT_S = 10.0
"""Seconds that a reply in flight is given when the conversation ends."""

QUIET_ENV = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
}
"""What keeps the worker's libraries from writing between the lines of the conversation."""


class TerminalChat:
    """One conversation with one model; `history` is what the model sees of it, oldest first."""

    def __init__(self, worker: GenerationBackend, source: str, settings: Settings) -> None:
        self._worker = worker
        self._source = source
        self._params = sampling_params(settings)
        self.history: deque[Message] = deque(maxlen=settings.context_messages)

    async def send(self, text: str) -> None:
        """Answer `text` on stdout, as it is made.

        Raises:
            ModelError: there is no reply, or only a part of one.
        """
        self.history.append(Message(Role.USER, text))
        pieces = self._worker.generate(
            self._source, tuple(self.history), self._params, channel=TERMINAL_CHANNEL_ID
        )
        async with aclosing(pieces):
            async for piece in pieces:
                match piece:
                    case TextDelta(text=delta):
                        _write_stdout(delta)
                    case Finished(text=reply):
                        self.history.append(Message(Role.ASSISTANT, reply))
        _write_stdout("\n")
        if len(self.history) == self.history.maxlen:
            self.history.popleft()  # the next line takes its place
        self._worker.prefetch(self._source, tuple(self.history), TERMINAL_CHANNEL_ID)

    async def loop(self) -> None:
        """Answer line after line until /quit or the end of the input."""
        keyboard = _StdinReader()
        while (line := await keyboard.read_line()) not in (None, "/quit"):
            if line == "/reset":
                self.history.clear()
                _write_stderr(say("Forgotten."))
            elif line:
                await self._send_or_print_error(line)

    async def _send_or_print_error(self, line: str) -> None:
        try:
            await self.send(line)
        except ModelError as e:
            _write_stderr(say(message_of(e)))


async def run_terminal_chat(settings: Settings, model_name: str | None, text: str | None) -> None:
    """Answer `text`, or line after line of stdin if it is None.

    If the default model cannot be loaded, `tiny` answers; a model that was asked for must load.

    Raises:
        ModelError: the model is unknown or cannot be loaded, or `text` cannot be answered.
    """
    options = with_custom_models(settings.models)
    option = find_option(options.values(), model_name or settings.default_model)
    os.environ.update(QUIET_ENV)  # the worker inherits it
    quiet = worker_settings(settings, drain_s=DRAIN_TIMEOUT_S, log_level="CRITICAL")
    async with WorkerClient(quiet) as worker:
        if model_name is None:
            option = await _load_or_tiny(worker, option)
        else:
            await worker.load(option.source)
        chat = TerminalChat(worker, option.source, settings)
        if text is not None:
            await chat.send(text)
        else:
            _write_stderr(
                say(
                    "You talk with {name}. /reset forgets what was said, /quit or Ctrl-D ends.",
                    name=option.name,
                )
            )
            await chat.loop()


async def _load_or_tiny(worker: GenerationBackend, option: ModelOption) -> ModelOption:
    try:
        await worker.load(option.source)
    except LoadFailed as e:
        _write_stderr(say(fallback_message(message_of(e))))
        return model_options[EMBEDDED_NAME]
    return option


class _StdinReader:
    """Lines of stdin, without holding up the event loop or the end of the process.

    Each is read in a daemon thread: the loop's own threads are waited for at exit, so Ctrl-C would
    have no effect before the next Enter. And not through `sys.stdin`, which Python closes at exit:
    it aborts if a thread still reads there. For the same reason the file is never closed.
    """

    def __init__(self) -> None:
        own = sys.stdin
        self._lines = open(  # noqa: SIM115
            own.fileno(), encoding=own.encoding, errors="replace", closefd=False
        )

    async def read_line(self) -> str | None:
        """The next line without its outer spaces; None at the end."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def settle(line: str) -> None:
            if not answer.done():
                answer.set_result(line)

        def read(lines: TextIO) -> None:
            line = lines.readline()
            with suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
                loop.call_soon_threadsafe(settle, line)

        sys.stderr.write(say(PROMPT))
        sys.stderr.flush()
        threading.Thread(target=read, args=(self._lines,), daemon=True).start()
        line = await answer
        return line.strip() if line else None


def _write_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _write_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
