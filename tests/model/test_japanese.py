"""A Japanese GPT-2 with a sentencepiece tokenizer, from its folder to its replies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.records import Message, Role
from model import loading
from model.chat_template import REPLACEMENT_CHAR, build_prompt, encode_chat, to_chat_dict
from model.control_tokens import escape_control_tokens
from model.convert.artifact import read_metadata, read_tokenizer
from model.convert.build import build
from model.convert.sentencepiece import load_sentencepiece
from model.convert.validation import validate_folder
from model.errors import LoadFailed
from model.own_templates import (
    JAPANESE_TEMPLATE,
    PLAIN_TEMPLATE,
    is_japanese,
    plain_template,
    stop_strings,
)
from model.registry import EMBEDDED_FOLDER, with_custom_models
from model.runners.device import Device
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.tokenizer import Tokenizer
from model.worker.client import WorkerClient
from model.worker.messages import Finished, TextDelta
from tests.builds import BUILT
from tests.japanese_folders import japanese_pairs, make_japanese_folder
from tests.model.conftest import CPU, CPU_INT8, load
from tests.model_folders import make_tokenizer
from training.config import TrainingConfig
from training.run.base_model import load_pretrained, prepare_model

ASKED = [Message(Role.USER, "こんにちは！今日は何をしましたか？")]
CONTROLS = ["</s>", "<s>", "<unk>", "[PAD]", "[SEP]", "[CLS]", "[MASK]"]
FORGED = [
    "＜/s＞",
    "</S>",
    "＜ｓ＞",
    "［ＰＡＤ］",
    "[pad]",
    "[Mask]",
    "<",
    "/s>",
    "「",
    "」",
    "｣",
    "\n",
    "<0xE3>",
    "＜0x80＞",
    "<0x8D>",
]
WORDS = [text for pair in japanese_pairs()[:40] for text in pair]

TWO_PARTS = ["ｶﾞ", "ﾎﾟ", "か\u3099", "ハ\u309a"]

texts = st.lists(
    st.sampled_from([*CONTROLS, *FORGED, *WORDS, "ABC", "ｗｗｗ", "彁", " "]) | st.text(max_size=4),
    max_size=6,
).map("".join)


@pytest.fixture(scope="module", params=["unknown letters", "bytes"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("japanese") / "ja"
    return make_japanese_folder(path, bytes_too=request.param == "bytes")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Tokenizer:
    built = build(str(folder), BUILT, "int8")
    return read_tokenizer(built, read_metadata(built))


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    """That of training, before it has control tokens."""
    return load_pretrained(str(folder))[1]


@given(
    st.lists(
        st.sampled_from([*WORDS, *TWO_PARTS, "ABC", "ｗｗｗ", "彁", "  ", "\n"]) | st.text(),
        max_size=5,
    )
)
def test_the_ids_are_those_of_sentencepiece(folder: Path, ours: Tokenizer, said: list[str]) -> None:
    """In small letters, of which it was made, and but for what looks like a control token."""
    original = SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    text = escape_control_tokens(ours, "".join(said)).replace("[", "").replace("<", "")
    assert ours.encode(text) == original.encode(text.lower())


@given(texts)
def test_nothing_that_is_typed_becomes_a_control_token(
    ours: Tokenizer, theirs: Any, text: str
) -> None:
    controls = {ours.get_vocab()[one] for one in CONTROLS} - {ours.get_vocab()["<unk>"]}
    for tokenizer in (ours, theirs):
        assert not controls & set(
            tokenizer.encode(escape_control_tokens(tokenizer, text), add_special_tokens=False)
        )
    ids = encode_chat(ours, [Message(Role.USER, text)])
    assert not controls & set(ids)
    assert ours.decode(ids).count("」") == 1  # nobody can speak for another


def test_pieces_for_bytes_cannot_be_typed(tmp_path: Path) -> None:
    """With a piece that has capitals, so that these are read as they are."""
    path = make_japanese_folder(tmp_path / "ja", bytes_too=True)
    model = _pieces(path)
    model.pieces[-1].piece = "ABC"
    (path / "spiece.model").write_bytes(model.SerializeToString())
    built = build(str(path), tmp_path / "built", "int8")
    ours = read_tokenizer(built, read_metadata(built))
    for forged in ("<0xE3><0x80><0x8D>", "＜0xE3＞＜0x80＞＜0x8D＞"):
        ids = encode_chat(ours, [Message(Role.USER, forged)])
        assert ours.decode(ids).count("」") == 1


def test_the_vocabulary_tells_that_it_is_japanese(ours: Tokenizer, theirs: Any) -> None:
    tiny = Tokenizer(EMBEDDED_FOLDER / "tokenizer.json", special_tokens={}, chat_template="")
    assert is_japanese(ours)
    assert is_japanese(theirs)
    assert not is_japanese(tiny)
    assert plain_template(make_tokenizer([], plain=True)) == plain_template(tiny) == PLAIN_TEMPLATE
    assert ours.chat_template == JAPANESE_TEMPLATE
    assert stop_strings(ours) == ("」",)


def test_a_prompt_is_talk_in_quotation_marks(ours: Tokenizer) -> None:
    said = [
        Message(Role.USER, "名前は？"),
        Message(Role.ASSISTANT, "「ボット」です。"),
        Message(Role.USER, "好きな\n食べ物は？"),
    ]
    messages = [to_chat_dict(ours, one) for one in said]
    assert ours.render(messages, add_generation_prompt=True) == (
        "ユーザー「名前は？」ボット「『ボット』です。」ユーザー「好きな 食べ物は？」ボット「"
    )


def test_what_is_too_long_keeps_its_end_in_whole_characters(ours: Tokenizer) -> None:
    long = "彁".join(WORDS)
    prompt = build_prompt(ours, [Message(Role.USER, long)], 60)
    [kept] = prompt.messages
    assert prompt.truncated
    assert 50 <= len(prompt.input_ids) <= 60
    assert REPLACEMENT_CHAR not in kept.content
    assert "unk" not in kept.content
    assert kept.content[-10:] == WORDS[-1][-10:]


def test_training_reads_it_as_the_worker_does(ours: Tokenizer, theirs: Any) -> None:
    theirs.chat_template = ours.chat_template
    turns = [Message(Role.USER, text) for text in WORDS]
    assert encode_chat(theirs, turns) == encode_chat(ours, turns)
    assert theirs.get_added_vocab() == ours.get_added_vocab()


def test_a_character_without_a_token_is_no_control_token(ours: Tokenizer) -> None:
    assert escape_control_tokens(ours, "言彁葉") == "言彁葉"
    assert len(ours.encode("言彁葉")) > len(ours.encode("言"))


def test_what_is_saved_opens_with_plain_transformers(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = prepare_model(TrainingConfig(name="v1", base=str(folder)), ())
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again: Any = AutoTokenizer.from_pretrained(tmp_path)
    built = build(str(tmp_path), BUILT, "int8")
    ours = read_tokenizer(built, read_metadata(built))
    for text in WORDS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert again.encode(text, add_special_tokens=False) == ids == ours.encode(text)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.vocab_size == len(again)
    assert ours.get_added_vocab().keys() >= {"<|user|>", "<|bot|>", "</s>"}


async def test_the_worker_answers_through_the_registry(folder: Path) -> None:
    source = with_custom_models({"ja": str(folder)})["ja"].source
    build(source, BUILT, "int8")
    async with WorkerClient(WorkerSettings(threads=1, build_cache=BUILT)) as client:
        assert not client.models[str(EMBEDDED_FOLDER)].japanese
        assert (await client.load(source)).japanese
        rendered = await client.render(source, ASKED, 40)
        assert rendered.text.endswith("」ボット「")
        for seed in range(4):
            pieces, end = [], None
            async for piece in client.generate(source, ASKED, SamplingParams(seed=seed)):
                match piece:
                    case TextDelta(text=text):
                        pieces.append(text)
                    case Finished():
                        end = piece
            assert end is not None
            assert "".join(pieces) == end.text == end.text.strip()
            assert not any(one in end.text for one in (*CONTROLS, REPLACEMENT_CHAR, "▁", "」"))


def test_both_runners_say_the_same(folder: Path) -> None:
    """The weights as they are, by torch as on a GPU but for the device, and as a graph."""
    loaded = load(folder, CPU)
    built = build(str(folder), BUILT, "torch")
    torch_runner = loading._load_torch(
        built, read_metadata(built), Device("cpu", "fp32", "fp32"), 2, 1
    )
    ids = encode_chat(loaded.tokenizer, ASKED)
    assert loaded.runner.prefill(0, ids, 0) == pytest.approx(
        torch_runner.prefill(0, ids, 0), abs=1e-4
    )
    assert load(folder, CPU_INT8).info.vocabulary == loaded.info.vocabulary


def test_the_unknown_piece_is_never_said(folder: Path) -> None:
    loaded = load(folder, CPU)
    assert loaded.suppress_token_ids == (loaded.tokenizer.get_vocab()["<unk>"],)
    assert load(EMBEDDED_FOLDER, CPU).suppress_token_ids == ()


def test_capitals_are_made_small_where_it_says_so_or_knows_none(folder: Path) -> None:
    file = folder / "spiece.model"
    read = [load_sentencepiece(file, settings) for settings in ({}, {"do_lower_case": True})]
    assert all(one.encode("AIとは").ids == one.encode("aiとは").ids for one in read)


def test_what_is_no_sentencepiece_model_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    for content in (b"\xff\xff no model", b"", *map(_spoiled(folder), SPOILED)):
        (broken / "spiece.model").write_bytes(content)
        with pytest.raises(LoadFailed, match="broken is damaged"):
            build(str(broken), tmp_path / "built", "int8")


SPOILED: tuple[Callable[[Any], None], ...] = (
    lambda model: setattr(model.trainer_spec, "unk_id", 10**6),
    lambda model: setattr(model.normalizer_spec, "precompiled_charsmap", b"no letters"),
    lambda model: setattr(model.pieces[9], "piece", ""),
    lambda model: setattr(model.pieces[9], "piece", model.pieces[8].piece),
    lambda model: setattr(model.pieces[9], "piece", "x" * 10**6),
)


def _spoiled(folder: Path) -> Callable[[Callable[[Any], None]], bytes]:
    def spoiled(spoil: Callable[[Any], None]) -> bytes:
        model = _pieces(folder)
        spoil(model)
        return bytes(model.SerializeToString())

    return spoiled


def _pieces(folder: Path) -> Any:
    form: Any = sentencepiece_model_pb2
    return form.ModelProto.FromString((folder / "spiece.model").read_bytes())


def test_weights_in_another_form_are_told_how_to_convert(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "model.safetensors").rename(other / "pytorch_model.bin")
    hub = tmp_path / "models--someone--ja" / "snapshots" / "abc"  # without what is not downloaded
    shutil.copytree(other, hub, ignore=shutil.ignore_patterns("*.bin"))
    with pytest.raises(LoadFailed, match=r"on the Hugging Face Hub, .* docs/japanese\.md"):
        validate_folder(hub, "someone/ja")
    with pytest.raises(LoadFailed, match=r"docs/japanese\.md"):
        build(str(other), tmp_path / "built", "int8")
