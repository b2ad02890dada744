"""Check of the worker: starts one, generates a short reply with it, and reports its device."""

from __future__ import annotations

import time
from dataclasses import replace

from bot.ops.checks.check import Finding, refer_to
from bot.settings import Settings, sampling_params, worker_settings
from core.records import Message, Role
from i18n.phrase import Phrase, message_of, phrase
from model.backend import GenerationBackend
from model.errors import ModelError
from model.registry import ModelOption, embedded_option
from model.worker.client import WorkerClient
from model.worker.messages import Finished

WORKER, DEVICE = NAMES = (phrase("worker"), phrase("device"))
TEST_TOKENS = 8
TEST_MESSAGE = phrase("Hello!")


async def check_worker(settings: Settings) -> list[Finding]:
    """Start a second worker and generate with the embedded model: as it was built for the bot, if
    the bot has run here before; else nothing is left behind of it."""
    options = worker_settings(settings, drain_s=0, log_level="CRITICAL")
    if not settings.paths.built_models.is_dir():
        options = replace(options, build_cache=None)
    model = embedded_option(settings.language)
    try:
        async with WorkerClient(options, embedded=model.source) as client:
            began = time.perf_counter()
            reply = await short_reply(client, model, settings)
            seconds = time.perf_counter() - began
            ready = client.ready
    except ModelError as e:
        advice = phrase(
            "Run `gpt2bot chat --model {model} {hello}` and read the log; reinstall the bot if "
            "needed.",
            model=model.name,
            hello=TEST_MESSAGE,
        )
        unknown = Finding(DEVICE, phrase("It is unknown."), refer_to(WORKER))
        return [Finding(WORKER, message_of(e), advice), unknown]
    assert ready is not None  # it has answered
    device = phrase(
        "{device}: replies in {serving}, training in {training}.",
        device=ready.device,
        serving=ready.model.dtype,
        training=ready.training_precision,
    )
    return [Finding(WORKER, answered(model, reply, seconds)), Finding(DEVICE, device)]


def answered(model: ModelOption, reply: Finished, seconds: float) -> Phrase:
    """The finding of a check that a model answered."""
    return phrase(
        "{model} answered with {count} tokens in {ms:.0f} ms.",
        model=model.name,
        count=reply.new_tokens,
        ms=1000 * seconds,
    )


async def short_reply(
    client: GenerationBackend, model: ModelOption, settings: Settings
) -> Finished:
    """A short reply. Raises ModelError: there is none."""
    hello = Message(Role.USER, TEST_MESSAGE.translate_to(settings.language))
    params = replace(sampling_params(settings, model), max_new_tokens=TEST_TOKENS)
    events = client.generate(model.source, (hello,), params)
    *_, last = [event async for event in events]
    assert isinstance(last, Finished)
    return last
