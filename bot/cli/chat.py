"""`gpt2bot chat`: replies on stdout, everything else on stderr. The conversation is not saved."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections import deque
from contextlib import aclosing, suppress

from bot.cli.questions import YES
from bot.settings import Settings, prepare_home, sampling_params, worker_settings
from core.records import Message, Role
from i18n.phrase import Phrase, message_of, phrase
from i18n.reader import say
from model.backend import GenerationBackend
from model.convert.validation import is_downloaded, is_folder
from model.errors import LoadFailed, ModelError
from model.registry import (
    ModelOption,
    embedded_option,
    fallback_message,
    find_option,
    with_custom_models,
)
from model.worker.client import WorkerClient
from model.worker.messages import Finished, TextDelta

PROMPT = phrase("you> ")
HELP = phrase(
    "Write what you want to say. /reset forgets the conversation; /quit, exit or Ctrl-D ends it. "
    "The other commands are for Discord: `gpt2bot demo` shows them."
)
QUIT_WORDS = {"/quit", "/exit", "quit", "exit"}
COMMAND = re.compile(r"/[a-z]+", re.IGNORECASE)
DOWNLOAD_SIZES = {"gpt2": "550 MB", "gpt2-medium": "1.5 GB"}
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

    def __init__(self, worker: GenerationBackend, option: ModelOption, settings: Settings) -> None:
        self._worker = worker
        self._source = option.source
        self._params = sampling_params(settings, option)
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

    async def loop(self, stdin: _StdinReader) -> None:
        """Answer each line until one of QUIT_WORDS or the end of the input."""
        while (line := await stdin.read_line(PROMPT)) is not None:
            if line.lower() in QUIT_WORDS:
                return
            if line.lower() == "/reset":
                self.history.clear()
                print(say("Forgotten."), file=sys.stderr)
            elif COMMAND.fullmatch(line):
                print(say(HELP), file=sys.stderr)
            elif line:
                try:
                    await self.send(line)
                except ModelError as e:
                    print(say(message_of(e)), file=sys.stderr)


async def run_terminal_chat(settings: Settings, model_name: str | None, text: str | None) -> None:
    """Answer `text`, or stdin line by line if it is None.

    If the default model cannot be loaded, the embedded one answers instead; a `model_name` must
    load.

    Raises:
        SettingsError: the home cannot be used.
        ModelError: the model is unknown or cannot be loaded, or `text` cannot be answered.
    """
    options = with_custom_models(settings.models)
    option = find_option(options.values(), model_name or settings.own_default_model)
    embedded = embedded_option(settings.language)
    prepare_home(settings)
    stdin = _StdinReader() if text is None else None
    if model_name is None and not await _may_load(option, embedded, stdin):
        option = embedded
    os.environ.update(QUIET_ENV)  # the worker inherits it
    quiet = worker_settings(settings, drain_s=DRAIN_TIMEOUT_S, log_level="CRITICAL")
    async with WorkerClient(quiet, embedded=embedded.source) as worker:
        try:
            await worker.load(option.source)
        except LoadFailed as e:
            if model_name is not None:
                raise
            print(say(fallback_message(message_of(e), embedded.name)), file=sys.stderr)
            option = embedded
        chat = TerminalChat(worker, option, settings)
        if text is not None:
            await chat.send(text)
        if stdin is not None:
            print(say("Talking to {name}. {help}", name=option.name, help=HELP), file=sys.stderr)
            await chat.loop(stdin)


async def _may_load(option: ModelOption, embedded: ModelOption, stdin: _StdinReader | None) -> bool:
    """Whether to load the default model: asks somebody at a terminal before a large download."""
    if is_folder(option.source) or await asyncio.to_thread(is_downloaded, option.source):
        return True
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return True  # it fails, and why is said
    size = DOWNLOAD_SIZES.get(option.name)
    here = phrase(
        "{model} is not on this computer yet: it is downloaded once{size}, and {tiny} is here "
        "already, but says less.",
        model=option.name,
        size=phrase(" (about {size})", size=size) if size else "",
        tiny=embedded.name,
    )
    print(say(here), file=sys.stderr)
    if stdin is None or not sys.stdin.isatty():
        return True
    question = phrase(
        "Download {model} now? Enter: no, talk with {tiny} [y/N] ",
        model=option.name,
        tiny=embedded.name,
    )
    return (await stdin.read_line(question) or "").lower() in YES


class _StdinReader:
    """Reads lines of stdin without blocking the event loop or the end of the process.

    A daemon thread reads each line, because at exit Python waits for the threads of the loop's
    executor: Ctrl-C would have no effect before the next Enter. It does not read `sys.stdin`: the
    interpreter closes that at exit, and aborts if a thread is still reading. So the file that it
    reads is never closed either.
    """

    def __init__(self) -> None:
        self._file = open(  # noqa: SIM115
            sys.stdin.fileno(), encoding=sys.stdin.encoding, errors="replace", closefd=False
        )
        self._lines: asyncio.Queue[str] = asyncio.Queue()

    async def read_line(self, prompt: Phrase) -> str | None:
        """The next line, stripped, after a prompt; None at the end of the input."""
        loop = asyncio.get_running_loop()

        def read() -> None:
            line = self._file.readline()
            with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
                loop.call_soon_threadsafe(self._lines.put_nowait, line)

        print(say(prompt), end="", file=sys.stderr, flush=True)
        threading.Thread(target=read, daemon=True).start()
        line = await self._lines.get()
        return line.strip() if line else None
