"""The worker: a real one is started, answers, and is ended. Tells the device that it found."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import replace

from bot.ops.checks.finding import Finding, refer_to_finding
from bot.settings import Settings, sampling_params, worker_settings
from core.records import Message, Role
from i18n.phrase import message_of, phrase
from model.backend import GenerationBackend
from model.errors import ModelError
from model.registry import EMBEDDED_FOLDER, EMBEDDED_NAME
from model.worker.client import WorkerClient
from model.worker.messages import Finished, Ready

WORKER, DEVICE = NAMES = (phrase("worker"), phrase("device"))
TEST_TOKENS = 8
TEST_MESSAGE = Message(Role.USER, "Hello!")
ADVICE = phrase(
    "Run `gpt2bot chat --model tiny Hello` and read the log; install the bot again if need be."
)


async def check_worker(settings: Settings) -> list[Finding]:
    """Start one beside whatever runs, and let the embedded model say a few words."""
    run_as = worker_settings(settings, drain_s=0, log_level="CRITICAL")
    try:
        # it leaves nothing behind
        async with WorkerClient(replace(run_as, build_cache=None)) as client:
            began = time.perf_counter()
            reply = await _reply(client, settings)
            seconds = time.perf_counter() - began
            ready = client.ready
    except ModelError as e:
        return [
            Finding(WORKER, False, message_of(e), ADVICE),
            Finding(DEVICE, False, phrase("It is not known."), refer_to_finding(WORKER)),
        ]
    assert ready is not None  # it has answered
    said = phrase(
        "{model} answered with {count} tokens in {ms:.0f} ms.",
        model=EMBEDDED_NAME,
        count=reply.new_tokens,
        ms=1000 * seconds,
    )
    return [Finding(WORKER, True, said), _device(ready)]


async def _reply(client: GenerationBackend, settings: Settings) -> Finished:
    params = replace(sampling_params(settings), max_new_tokens=TEST_TOKENS)
    async with aclosing(client.generate(str(EMBEDDED_FOLDER), (TEST_MESSAGE,), params)) as pieces:
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
