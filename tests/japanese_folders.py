"""A small Japanese GPT-2 for tests, with the files that such models have on the Hugging Face Hub.

The tokenizer is a sentencepiece model that is trained on the spot; the weights are random.
"""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path

import chatterbot_corpus
import torch
import yaml
from sentencepiece import SentencePieceTrainer
from transformers import GPT2Config, GPT2LMHeadModel

SPECIAL = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
PIECES = 1600


@cache
def japanese_pairs() -> tuple[tuple[str, str], ...]:
    """Questions and answers in Japanese, from the package chatterbot-corpus."""
    folder = Path(chatterbot_corpus.__file__).parent / "data" / "japanese"
    files = (yaml.safe_load(one.read_text("utf-8")) for one in sorted(folder.glob("*.yml")))
    talks = (talk for file in files for talk in file["conversations"] if len(talk) > 1)
    return tuple((str(talk[0]), str(talk[1])) for talk in talks)


@cache
def sentencepiece_model(*, bytes_too: bool = False) -> bytes:
    """A unigram model of those texts in small letters; `bytes_too`: it knows no unknown letters."""
    texts = [text.lower() for pair in japanese_pairs() for text in pair]
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=written,
        vocab_size=PIECES,
        character_coverage=0.99,
        byte_fallback=bytes_too,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        pad_piece="[PAD]",
        control_symbols=["[CLS]", "[SEP]"],
        user_defined_symbols=["[MASK]"],
        minloglevel=2,
    )
    return written.getvalue()


def make_japanese_folder(path: Path, *, bytes_too: bool = False) -> Path:
    """The folder: config.json, the weights as safetensors, spiece.model and two files about it."""
    torch.manual_seed(0)
    sizes = {"n_positions": 256, "n_embd": 48, "n_head": 2, "n_layer": 2, "n_inner": 104}
    config = GPT2Config(vocab_size=PIECES, bos_token_id=1, eos_token_id=2, **sizes)
    GPT2LMHeadModel(config).save_pretrained(path)
    settings = json.loads((path / "config.json").read_text())
    settings |= {"tokenizer_class": "T5Tokenizer", "n_ctx": 256}
    (path / "config.json").write_text(json.dumps(settings))
    (path / "spiece.model").write_bytes(sentencepiece_model(bytes_too=bytes_too))
    (path / "special_tokens_map.json").write_text(json.dumps(SPECIAL))
    about = {"extra_ids": 0, "additional_special_tokens": [], "tokenizer_class": "T5Tokenizer"}
    (path / "tokenizer_config.json").write_text(json.dumps(SPECIAL | about))
    return path
