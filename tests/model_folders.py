"""Small GPT-2 folders for tests: real files that real code loads, built in a moment.

A model with random weights says anything. One that `says` a text says it to everybody: its
blocks compute nothing, its embeddings are one-hot, and its head maps each token of the text to
the next one, so it needs the text's words to be distinct.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

from model.own_templates import add_control_tokens

END = "<|endoftext|>"


def make_tokenizer(words: list[str], *, plain: bool = False) -> GPT2Tokenizer:
    """Byte-level: the 256 bytes, then one token a word (with the space before it)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [END, *alphabet, *(f"Ġ{word}" for word in words)]
    bpe = Tokenizer(models.BPE({token: n for n, token in enumerate(vocabulary)}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = GPT2Tokenizer(
        tokenizer_object=bpe, bos_token=END, eos_token=END, unk_token=END, pad_token=END
    )
    if not plain:
        add_control_tokens(tokenizer)
    return tokenizer


def make_endless_folder(path: Path) -> Path:
    """A model that would go on for thousands of tokens.

    Its text is long, since the engine ends a reply that repeats a few words.
    """
    text = " ".join(str(n) for n in range(20))
    return make_model_folder(path, says=text, endless=True, positions=4096)


def make_model_folder(
    path: Path,
    *,
    says: str | None = None,
    plain: bool = False,
    endless: bool = False,
    positions: int = 128,
) -> Path:
    """A folder with a model, its tokenizer and, unless it is `plain`, its chat template.

    `says` None: random weights. Otherwise the model replies with exactly that text; a plain model
    then goes on with the next speaker's line, as base models do; an `endless` one starts again.
    """
    words = says.split() if says else []
    assert len(set(words)) == len(words), "the words of the text must be distinct"
    tokenizer = make_tokenizer(words, plain=plain)
    torch.manual_seed(0)
    size = len(tokenizer) if says is not None else 32
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=positions,
            n_embd=-(-size // 16) * 16,  # two heads, each a multiple of 8
            n_layer=1 if says is not None else 2,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
            tie_word_embeddings=says is None,
        )
    )
    if says is not None:
        _teach(model, _next_tokens(tokenizer, words, plain, endless))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def _next_tokens(
    tokenizer: GPT2Tokenizer, words: list[str], plain: bool, endless: bool
) -> dict[int, int]:
    ids = tokenizer.get_vocab()
    cue, *rest = (":", "Ċ", "U") if plain else ("<|bot|>", END)
    if endless:
        rest = [f"Ġ{words[0]}"]
    chain = [cue, *(f"Ġ{word}" for word in words), *rest]
    return {ids[one]: ids[following] for one, following in itertools.pairwise(chain)}


@torch.no_grad()
def _teach(model: GPT2LMHeadModel, next_tokens: dict[int, int]) -> None:
    for parameter in model.transformer.h.parameters():
        parameter.zero_()
    model.transformer.wpe.weight.zero_()
    model.transformer.wte.weight.copy_(torch.eye(*model.transformer.wte.weight.shape))
    model.lm_head.weight.zero_()
    for token, following in next_tokens.items():
        model.lm_head.weight[following, token] = 10.0
