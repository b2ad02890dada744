"""The tool that makes the embedded models."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

from core.records import Message, Role
from model.own_templates import CONTROL_TEMPLATE, is_japanese
from training.checkpoints import verify
from training.tools.tiny import as_typed, read_corpora

ROOT = Path(__file__).parents[2]
TALK = (Message(Role.USER, "元気ですか？"), Message(Role.ASSISTANT, "元気です！あなたは？"))


def test_japanese_as_people_type_it() -> None:
    rng = random.Random(0)
    typed = [as_typed(TALK, rng) for _ in range(300)]
    assert {turns[1] for turns in typed} == {TALK[1]}  # the bot writes as it should
    counts = {
        text: sum(turns[0].content == text for turns in typed)
        for text in ("元気ですか？", "元気ですか?", "元気ですか")
    }
    assert sum(counts.values()) == 300
    assert counts["元気ですか？"] > counts["元気ですか"] > 30
    assert counts["元気ですか?"] > 30


def test_what_is_only_a_mark_stays() -> None:
    rng, only = random.Random(0), (Message(Role.USER, "？"),)
    assert {as_typed(only, rng)[0].content for _ in range(50)} == {"？", "?"}


def test_corpora_of_one_name_are_all_read(tmp_path: Path) -> None:
    files = [tmp_path / folder / "talk.jsonl" for folder in ("one", "two")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        messages = [{"role": "user", "content": str(number)}, {"role": "assistant", "content": "a"}]
        file.write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    read = read_corpora("ja", files)
    assert [(name, talks[0][0].content) for name, talks in read] == [("talk", "0"), ("talk", "1")]


def make(data: Path, options: str) -> None:
    whole = f"--language ja --data {data} --epochs 0.0001 {options}"
    subprocess.run(
        [sys.executable, "-m", "training.tools.tiny", *whole.split()],
        cwd=ROOT,
        check=True,
        timeout=500,
    )


@pytest.mark.first
@pytest.mark.slow
def test_a_model_is_made_from_files(tmp_path: Path) -> None:
    """In one step nothing is learned, but all that a model's folder needs is made."""
    talk = {"messages": [{"role": m.role.value, "content": m.content} for m in TALK]}
    data = tmp_path / "talk.jsonl"
    data.write_text(1100 * (json.dumps(talk) + "\n"), encoding="utf-8")
    out = tmp_path / "tiny_ja"
    make(data, f"--job {tmp_path / 'job'} --out {out}")
    manifest = verify(out)
    assert (manifest.name, manifest.base) == ("tiny-ja", None)
    assert manifest.settings["optimizer"] == "muon"
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "license: cc-by-sa-4.0" in card
    assert "On 200 conversations that were held out" in card
    assert "{" not in card
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template == CONTROL_TEMPLATE
    assert is_japanese(tokenizer)
    with safe_open(out / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype.itemsize for name in list(weights.keys())} == {2}

    again = tmp_path / "again"
    make(data, f"--job {tmp_path / 'second'} --out {again} --base {out}")
    assert not (tmp_path / "second" / "checkpoint" / "report.json").exists()  # no first stage
    assert verify(again).seconds > manifest.seconds
    assert (again / "tokenizer.json").read_bytes() == (out / "tokenizer.json").read_bytes()
