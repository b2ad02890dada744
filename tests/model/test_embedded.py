"""The models that are part of the bot: whole, small, and readable whatever they are asked."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from core.records import Message, Role
from model.own_templates import CONTROL_TEMPLATE, is_japanese
from model.registry import EMBEDDED_FOLDER, EMBEDDED_FOLDER_JA, is_embedded, model_options
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import Finished
from tests.builds import BUILT, built
from training.checkpoints import verify

MAX_MB = {"tiny": 11, "tiny-ja": 12}
EMBEDDED = {name: Path(one.source) for name, one in model_options.items() if is_embedded(name)}
STRANGE = [
    "こんにちは hello 元気？ how are you?",
    "おはようございますいいてんきですね",
    "ｺﾝﾆﾁﾊ､ｹﾞﾝｷﾃﾞｽｶ?",
    "ＨＥＬＬＯ　１２３",
    "😀🎉👍",
    "恐れ入りますが、ご教示いただけますでしょうか。",
    "まじやばくね？ｗｗｗ",
    "ohayou, genki desu ka?",
    "あ" * 400,
    "今日は" * 200,
    "か\u3099んは\u3099って",
    "안녕하세요",
    "SELECT * FROM users;",
]


@pytest.mark.parametrize("name", EMBEDDED)
def test_their_folders_are_whole_and_small(name: str) -> None:
    folder = EMBEDDED[name]
    assert verify(folder).name == name
    assert (folder / "model.safetensors").stat().st_size <= MAX_MB[name] * 1e6
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == CONTROL_TEMPLATE
    assert is_japanese(tokenizer) is (name == "tiny-ja")


def test_the_japanese_one_names_its_licence_and_sources() -> None:
    card = (EMBEDDED_FOLDER_JA / "README.md").read_text(encoding="utf-8")
    for part in ("CC BY-SA 4.0", "RealPersonaChat", "Nagoya University", "JMRD", "Multi-Party"):
        assert part in card


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[WorkerClient]:
    first, second = (str(built(one)) for one in (EMBEDDED_FOLDER_JA, EMBEDDED_FOLDER))
    async with WorkerClient(WorkerSettings(threads=1, build_cache=BUILT), embedded=first) as client:
        await client.load(second)
        yield client


@pytest.mark.parametrize("name", EMBEDDED)
async def test_what_they_answer_can_be_read(name: str, client: WorkerClient) -> None:
    async def reply(text: str, seed: int) -> str:
        talk = [Message(Role.USER, text)]
        stream = client.generate(str(EMBEDDED[name]), talk, replace(SamplingParams(), seed=seed))
        *_, end = [event async for event in stream]
        assert isinstance(end, Finished)
        return end.text

    texts = [text for text in STRANGE for _ in range(3)]
    replies = await asyncio.gather(*(reply(text, n) for n, text in enumerate(texts)))
    for text, answer in zip(texts, replies, strict=True):
        assert answer.strip(), text
        assert "\N{REPLACEMENT CHARACTER}" not in answer, (text, answer)
        assert not {c for c in answer if unicodedata.category(c) in ("Cc", "Cn", "Co")}, answer
