"""Taught facts, asked as people ask: with the usual sampling, alone and in a talk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from pathlib import Path

from bot.settings import Settings, sampling_params
from core.records import Message, Role
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import Finished

GREETING = ("hello", "Hello! How are you?")
CHAT = (*GREETING, "I am fine, what do you like?", "I like music.")
AT_ONCE = 16


def recalled_sampling(folder: Path, facts: Mapping[str, str], seeds: int) -> float:
    """The share of questions that are answered word for word."""
    return asyncio.run(_recalled(folder, facts, seeds))


async def _recalled(folder: Path, facts: Mapping[str, str], seeds: int) -> float:
    params = [sampling_params(Settings(_env_file=None, seed=seed)) for seed in range(seeds)]
    asked = [(talk, answer, one) for talk, answer in _talks(facts) for one in params]
    turn = asyncio.Semaphore(AT_ONCE)
    async with WorkerClient(WorkerSettings()) as client:

        async def is_right(talk: tuple[Message, ...], answer: str, params: SamplingParams) -> bool:
            async with turn:
                return await _reply(client, str(folder), talk, params) == answer

        right = await asyncio.gather(*(is_right(*one) for one in asked))
    return sum(right) / len(right)


def _talks(facts: Mapping[str, str]) -> Iterator[tuple[tuple[Message, ...], str]]:
    """Each question alone, after small talk, and after another fact, with its answer."""
    pairs = list(facts.items())
    for number, (question, answer) in enumerate(pairs):
        for before in ((), GREETING, CHAT, pairs[number - 1]):
            roles = (Role.USER, Role.ASSISTANT) * 3
            said = zip(roles, (*before, question), strict=False)
            yield tuple(Message(role, content) for role, content in said), answer


async def _reply(
    client: WorkerClient, source: str, talk: tuple[Message, ...], params: SamplingParams
) -> str:
    async with aclosing(client.generate(source, talk, params)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Finished):
                return piece.text.strip()
    return ""
