"""The worker: a real one is started, answers, and is ended. Tells the device that it found."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import replace

from bot.cli.doctor.report import Finding, see
from bot.settings import Settings, sampling, worker_settings
from core.records import Message, Role
from i18n.phrase import phrase, words
from model.errors import ModelError
from model.registry import EMBEDDED, TINY
from model.worker.client import WorkerClient
from model.worker.messages import Finished, Ready

WORKER, DEVICE = NAMES = (phrase("worker"), phrase("device"))
TOKENS = 8
HELLO = Message(Role.USER, "Hello!")
ADVICE = phrase(
    "Run `gpt2bot chat --model tiny Hello` and read the log; install the bot again if need be."
)


async def worker(settings: Settings) -> list[Finding]:
    """Start one beside whatever runs, and let the embedded model say a few words."""
    run_as = worker_settings(settings, drain_s=0, log_level="CRITICAL")
    try:
        async with WorkerClient(replace(run_as, built=None)) as client:  # it leaves nothing behind
            began = time.perf_counter()
            reply = await _reply(client, settings)
            seconds = time.perf_counter() - began
            ready = client.ready
    except ModelError as e:
        return [
            Finding(WORKER, False, words(e), ADVICE),
            Finding(DEVICE, False, phrase("It is not known."), see(WORKER)),
        ]
    assert ready is not None  # it has answered
    said = phrase(
        "{model} answered with {count} tokens in {ms:.0f} ms.",
        model=EMBEDDED,
        count=reply.new_tokens,
        ms=1000 * seconds,
    )
    return [Finding(WORKER, True, said), _device(ready)]


async def _reply(client: WorkerClient, settings: Settings) -> Finished:
    params = replace(sampling(settings), max_new_tokens=TOKENS)
    async with aclosing(client.generate(str(TINY), (HELLO,), params)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Finished):
                return piece
    raise AssertionError("the last piece is Finished")


def _device(ready: Ready) -> Finding:
    detail = phrase(
        "{device}: replies in {serving}, training in {training}.",
        device=ready.device,
        serving=ready.model.dtype,
        training=ready.training_precision,
    )
    return Finding(DEVICE, True, detail)
