"""`gpt2bot chat`: replies on stdout, everything else on stderr. The conversation is not saved."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

from bot.settings import Settings, sampling_params, worker_settings
from core.records import Message, Role
from i18n.phrase import message_of, phrase
from i18n.reader import say
from model.backend import GenerationBackend
from model.errors import LoadFailed, ModelError
from model.registry import (
    EMBEDDED_NAME,
    fallback_message,
    find_option,
    model_options,
    with_custom_models,
)
from model.worker.client import WorkerClient
from model.worker.messages import Finished, TextDelta

PROMPT = phrase("you> ")
CHANNEL_ID = 1
"""The channel id for the worker: there is only one conversation."""
DRAIN_TIMEOUT_S = 10.0
"""Seconds that a reply in progress gets when the program ends."""
QUIET_ENV = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
}
"""Keeps the worker's libraries from writing into the conversation."""


class TerminalChat:
    """A conversation with one model; `history` is its context, oldest first."""

    def __init__(self, worker: GenerationBackend, source: str, settings: Settings) -> None:
        self._worker = worker
        self._source = source
        self._params = sampling_params(settings)
        self.history: deque[Message] = deque(maxlen=settings.context_messages)

    async def send(self, text: str) -> None:
        """Stream the reply to `text` to stdout.

        Raises:
            ModelError: there is no reply, or only a part of one.
        """
        self.history.append(Message(Role.USER, text))
        events = self._worker.generate(
            self._source, tuple(self.history), self._params, channel=CHANNEL_ID
        )
        async with aclosing(events):
            async for event in events:
                match event:
                    case TextDelta(text=delta):
                        print(delta, end="", flush=True)
                    case Finished(text=reply):
                        self.history.append(Message(Role.ASSISTANT, reply))
        print(flush=True)
        if len(self.history) == self.history.maxlen:
            self.history.popleft()  # the next message will push it out: prefill without it
        self._worker.prefetch(self._source, tuple(self.history), CHANNEL_ID)

    async def loop(self) -> None:
        """Answer each line until /quit or the end of the input."""
        async for line in _stdin_lines():
            if line == "/quit":
                return
            if line == "/reset":
                self.history.clear()
                print(say("Forgotten."), file=sys.stderr)
            elif line:
                try:
                    await self.send(line)
                except ModelError as e:
                    print(say(message_of(e)), file=sys.stderr)


async def run_terminal_chat(settings: Settings, model_name: str | None, text: str | None) -> None:
    """Answer `text`, or stdin line by line if it is None.

    If the default model cannot be loaded, `tiny` answers instead; a `model_name` must load.

    Raises:
        ModelError: the model is unknown or cannot be loaded, or `text` cannot be answered.
    """
    options = with_custom_models(settings.models)
    option = find_option(options.values(), model_name or settings.default_model)
    os.environ.update(QUIET_ENV)  # the worker inherits it
    quiet = worker_settings(settings, drain_s=DRAIN_TIMEOUT_S, log_level="CRITICAL")
    async with WorkerClient(quiet) as worker:
        try:
            await worker.load(option.source)
        except LoadFailed as e:
            if model_name is not None:
                raise
            print(say(fallback_message(message_of(e))), file=sys.stderr)
            option = model_options[EMBEDDED_NAME]
        chat = TerminalChat(worker, option.source, settings)
        if text is not None:
            await chat.send(text)
        else:
            welcome = say(
                "Talking to {name}. /reset forgets the conversation, /quit or Ctrl-D ends it.",
                name=option.name,
            )
            print(welcome, file=sys.stderr)
            await chat.loop()


async def _stdin_lines() -> AsyncIterator[str]:
    """The stripped lines of stdin, each after a prompt.

    A daemon thread reads each line, because at exit Python waits for the threads of the loop's
    executor: Ctrl-C would have no effect before the next Enter. It does not read `sys.stdin`: the
    interpreter closes that at exit, and aborts if a thread is still reading. So the file that it
    reads is never closed either.
    """
    stdin = open(  # noqa: ASYNC230, SIM115
        sys.stdin.fileno(), encoding=sys.stdin.encoding, errors="replace", closefd=False
    )
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        line = stdin.readline()
        with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            loop.call_soon_threadsafe(lines.put_nowait, line)

    while True:
        print(say(PROMPT), end="", file=sys.stderr, flush=True)
        threading.Thread(target=read, daemon=True).start()
        line = await lines.get()
        if not line:
            return
        yield line.strip()
