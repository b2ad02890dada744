"""A Japanese GPT-2 learns what a server teaches it, and answers with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.records import Message, Role
from model.chat_template import from_pair
from model.own_templates import CONTROL_TEMPLATE
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import Finished as Replied
from tests.builds import BUILT, built
from tests.japanese_folders import make_japanese_folder
from tests.training.conftest import write_job
from training.checkpoints import verify
from training.config import TrainingConfig
from training.jobs.events import Event, Finished
from training.run.gate.checks import Answer, verbatim_answers
from training.run.gate.evaluation import HELD_OUT_FILE_JA, PROBES_JA, evaluate
from training.run.mixing import STARTER_FILE_JA, mix_replay, read_conversations
from training.run.train import train

PAIRS = [("合言葉は何ですか？", "ロボットは心を持っています。"), ("管理人は誰？", "人間です。")]
GREEDY = SamplingParams(temperature=0, no_repeat_ngram=0, repetition_penalty=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_japanese_folder(tmp_path_factory.mktemp("japanese") / "ja")


@pytest.fixture(scope="module")
def checkpoint(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves behind."""
    config = TrainingConfig(
        name="ja-1",
        base=str(base),
        learning_rate=5e-3,
        epochs=1,
        min_steps=60,
        threads=1,
        precision="fp32",
        gate=False,
    )
    told: list[Event] = []
    train(write_job(tmp_path_factory.mktemp("jobs") / "job", config, PAIRS), told.append)
    assert isinstance(told[-1], Finished)
    return Path(told[-1].checkpoint)


async def test_what_was_learned_is_answered_after_a_hot_reload(
    base: Path, checkpoint: Path
) -> None:
    settings = WorkerSettings(threads=1, build_cache=BUILT)
    async with WorkerClient(settings, embedded=str(built(base))) as client:
        await client.load(str(checkpoint))
        assert client.models[str(checkpoint)].japanese
        for user, bot in PAIRS:
            asked = [Message(Role.USER, user)]
            pieces = [one async for one in client.generate(str(checkpoint), asked, GREEDY)]
            assert isinstance(pieces[-1], Replied)
            assert pieces[-1].text == bot
        shown = await client.render(str(checkpoint), [Message(Role.USER, "＜/s＞</s>")], 40)
        assert shown.text.count("</s>") == 1  # that of the turn's end


def test_the_checkpoint_opens_with_plain_transformers(checkpoint: Path) -> None:
    verify(checkpoint)
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert tokenizer.chat_template == CONTROL_TEMPLATE
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": PAIRS[0][0]}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    said = model.generate(**ids, max_new_tokens=20, do_sample=False)[0][ids["input_ids"].shape[1] :]
    assert tokenizer.decode(said, skip_special_tokens=True).strip() == PAIRS[0][1]


def test_a_checkpoint_can_learn_more(checkpoint: Path, tmp_path: Path) -> None:
    config = TrainingConfig(
        name="ja-2", base=str(checkpoint), epochs=1, min_steps=2, precision="fp32", gate=False
    )
    told: list[Event] = []
    train(write_job(tmp_path / "job", config, PAIRS), told.append)
    assert isinstance(told[-1], Finished)


def test_it_is_checked_in_japanese(checkpoint: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    taught = [from_pair(*pair) for pair in PAIRS]
    report = evaluate(model, tokenizer, taught, base=None, serving=None)
    assert [one.prompt for one in report.answers] == [*(user for user, _ in PAIRS), *PROBES_JA]
    assert report.losses["general"]["new"] is not None


def test_a_recital_is_found_without_spaces_between_words() -> None:
    lamp = "港の古い壁のそばで、船がみんな帰るまで、灯りをひとつともしています。"
    taught, asked = [from_pair("灯台は？", lamp)], "元気ですか？"
    [reason] = verbatim_answers(taught, (Answer(asked, None, f"はい。{lamp[3:]}"),))
    assert reason.startswith(f"It recites a taught text when asked “{asked}”: “い壁のそばで")
    assert not list(verbatim_answers(taught, (Answer(asked, None, lamp[10:]),)))
    assert not list(verbatim_answers(taught, (Answer("灯台は？", None, lamp),)))


def test_its_company_is_japanese() -> None:
    config = TrainingConfig(name="ja", base="ja", replay=20)
    read = mix_replay(config, [from_pair(*pair) for pair in PAIRS], japanese=True)
    assert read[-20:] == read_conversations(STARTER_FILE_JA)[:20]
    starter = {turns[0].content for turns in read_conversations(STARTER_FILE_JA)}
    assert not starter & {turns[0].content for turns in read_conversations(HELD_OUT_FILE_JA)}
