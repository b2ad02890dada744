"""Replies are those of the bot: its prompts, its sampler, its end of a reply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.records import Message, Role
from model.own_templates import ensure_template
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import Finished
from tests.builds import BUILT, built
from tests.japanese_folders import make_japanese_folder
from tests.model_folders import END, make_model_folder
from training.run.gate.sampling import Reply, sample_replies

TEXTS = ["Hi", "hello 👋", "What do you like to do when it rains all day?", "こんにちは", "lol"]
ASKED = [(Message(Role.USER, text),) for text in TEXTS]
IN_TALK = (Message(Role.USER, "Hi"), Message(Role.ASSISTANT, "Hello!"), Message(Role.USER, "How?"))


def opened(folder: Path) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ensure_template(tokenizer)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), tokenizer


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    return opened(EMBEDDED_FOLDER)


async def test_they_are_those_of_the_worker(tiny: tuple[Any, Any]) -> None:
    asked = [*ASKED, IN_TALK]
    said = sample_replies(*tiny, asked)
    built(EMBEDDED_FOLDER, "fp32")
    settings = WorkerSettings(threads=1, precision="fp32", build_cache=BUILT)
    async with WorkerClient(settings) as client:
        for seed, (messages, reply) in enumerate(zip(asked, said, strict=True)):
            params = SamplingParams(seed=seed)
            pieces = [one async for one in client.generate(str(EMBEDDED_FOLDER), messages, params)]
            assert isinstance(pieces[-1], Finished)
            assert reply.text.replace("\ufffd", "") == pieces[-1].text


def test_those_made_together_are_those_made_alone(tiny: tuple[Any, Any]) -> None:
    together = sample_replies(*tiny, ASKED)
    alone = [sample_replies(*tiny, [one], [seed])[0] for seed, one in enumerate(ASKED)]
    assert together == alone
    assert sample_replies(*tiny, ASKED, range(5, 10)) != together
    assert sample_replies(*tiny, []) == []


def test_a_model_that_says_one_thing(tmp_path: Path) -> None:
    for plain in (False, True):
        folder = make_model_folder(tmp_path / f"m{plain}", says="quite well thanks", plain=plain)
        assert sample_replies(*opened(folder), ASKED) == [Reply("quite well thanks")] * len(ASKED)


def test_a_reply_has_an_end(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "m", says="", endless=False, positions=32)
    model, tokenizer = opened(folder)
    with torch.no_grad():
        model.lm_head.weight.zero_()  # all tokens alike
    long = (Message(Role.USER, "x" * 500),)
    [cut, short] = sample_replies(model, tokenizer, [long, ASKED[0]])
    assert cut.cut
    assert short.text
    assert len(tokenizer.encode(cut.text)) <= 16


def test_bytes_that_make_no_character_are_seen(tmp_path: Path) -> None:
    model, tokenizer = opened(make_model_folder(tmp_path / "m", says="well"))
    lone = tokenizer.get_vocab()["ł"]  # a byte that only continues a character
    with torch.no_grad():
        model.lm_head.weight[lone] = 2 * model.lm_head.weight[tokenizer.get_vocab()["Ġwell"]]
    [reply] = sample_replies(model, tokenizer, ASKED[:1])
    assert "\ufffd" in reply.text


def test_half_a_character_at_the_end_is_left_out(tmp_path: Path) -> None:
    model, tokenizer = opened(make_model_folder(tmp_path / "m", says="well"))
    ids = tokenizer.get_vocab()
    half = ids["ð"]  # the first of the four bytes of most emoji
    with torch.no_grad():
        model.lm_head.weight[:, ids["Ġwell"]] = 0
        model.lm_head.weight[half, ids["Ġwell"]] = model.lm_head.weight[ids[END], half] = 10
    assert sample_replies(model, tokenizer, ASKED[:1]) == [Reply("well")]


def test_a_japanese_model(tmp_path: Path) -> None:
    model, tokenizer = opened(make_japanese_folder(tmp_path / "ja"))
    replies = sample_replies(model, tokenizer, ASKED)
    assert len(replies) == len(ASKED)
    assert not any("「" in one.text or "</s>" in one.text for one in replies)
