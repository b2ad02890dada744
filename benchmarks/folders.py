"""Models of the true sizes with random weights, and prompts for them: nothing is downloaded."""

from __future__ import annotations

import multiprocessing
import os
import string
from itertools import islice, product
from pathlib import Path
from typing import Any

from benchmarks.peers import quiet

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"n_embd": 256, "n_layer": 4, "n_head": 4},
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12},
    "gpt2-medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
}
VOCABULARY = 50257


def make_folder(folder: str, size: str) -> None:
    """Random weights; a vocabulary of gpt2's size: bytes, and words of four letters."""
    _in_child(_make_folder, folder, size)


def change_weights(folder: str) -> None:
    """Other weights under the same name, as a retrain leaves them."""
    _in_child(_change_weights, folder)


def _make_folder(folder: str, size: str) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

    from model.chat import add_control_tokens

    quiet()
    end = "<|endoftext|>"
    names = [end, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words = map("".join, product(string.ascii_lowercase, repeat=4))
    names += [f"Ġ{word}" for word in islice(words, VOCABULARY - len(names) - 2)]
    vocabulary = {name: n for n, name in enumerate(names)}
    bpe = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = GPT2Tokenizer(
        tokenizer_object=bpe, bos_token=end, eos_token=end, unk_token=end, pad_token=end
    )
    add_control_tokens(tokenizer)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        **SIZES[size], vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, pad_token_id=0
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():  # a reply does not end before its length: these tokens never win
        model.transformer.wte.weight[tokenizer.all_special_ids] = 0.0
    model.save_pretrained(folder)


def _change_weights(folder: str) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(Path(folder, "model.safetensors"))
    weights["transformer.ln_f.bias"] = weights["transformer.ln_f.bias"] + 0.01
    save_file(weights, Path(folder, "changed"), metadata={"format": "pt"})
    os.replace(Path(folder, "changed"), Path(folder, "model.safetensors"))  # noqa: PTH105


def prompts(count: int, tokens: int) -> list[str]:
    """Texts of 80 to 120 % of so many tokens (bytes, that is) less those of the template."""
    letters = 40 * string.ascii_lowercase
    sizes = [round(tokens * (0.8 + 0.4 * ((7 * n) % count) / count)) - 3 for n in range(count)]
    return [letters[n : n + max(1, size)] for n, size in enumerate(sizes)]


def _in_child(target: Any, *args: Any) -> None:
    """Torch stays out of this process, which plays the bot's."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the model could not be made")
