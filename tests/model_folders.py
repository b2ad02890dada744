"""Small GPT-2 folders for tests: real files that real code loads, built in a moment.

A model with random weights says anything. One that `says` a text says it to everybody: its
blocks compute nothing, its embeddings are one-hot, and its head maps each token of the text to
the next one, so it needs the text's words to be distinct. An adapter of such a model may say the
same words in another order.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

from model.convert.adapter_folder import weights_sha256
from model.convert.shapes import ATTENTION_MATRICES, expected_shapes
from model.convert.validation import validate_folder
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


def make_endless_folder(path: Path, words: int = 20) -> Path:
    """A model that would go on for thousands of tokens.

    Its text is long, since the engine ends a reply that repeats a few words. Models of as many
    words are the same, and so is what is built of them.
    """
    text = " ".join(str(n) for n in range(words))
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


def make_adapter_folder(
    path: Path,
    base: Path,
    *,
    rank: int = 4,
    says: str | None = None,
    seed: int = 0,
    strength: float = 0.3,
    matrices: Sequence[str] = ATTENTION_MATRICES,
) -> Path:
    """An adapter of the model in the folder `base`, as peft would save it, and its manifest.

    `says` None: random matrices. Otherwise the base must be one that says a text, and the adapter
    says these of its words; both ranks and words are 32 at most.
    """
    path.mkdir(parents=True)
    for pattern in ("tokenizer*.json", "chat_template.jinja"):
        for file in base.glob(pattern):
            shutil.copy(file, path)
    if says is None:
        pairs = _random_pairs(base, matrices, rank, seed, strength)
    else:
        pairs = _speaking_pairs(base, says.split())
        rank = len(pairs["h.0.mlp.c_fc"][0])
        matrices = ("mlp.c_fc", "mlp.c_proj")
    weights = {
        f"base_model.model.transformer.{name}.lora_{letter}.weight": matrix.contiguous()
        for name, pair in pairs.items()
        for letter, matrix in zip("AB", pair, strict=True)
    }
    save_file(weights, path / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "target_modules": sorted(matrices),
        "fan_in_fan_out": True,
        "bias": "none",
        "inference_mode": True,
    }
    (path / "adapter_config.json").write_text(json.dumps(config))
    sha256 = weights_sha256(validate_folder(base, base.name))
    manifest = {"base_name": base.name, "adapter": {"base_sha256": sha256, "rank": rank}}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


LoraPairs = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""A (rank, in) and B (out, rank) of each matrix."""


def _random_pairs(
    base: Path, matrices: Sequence[str], rank: int, seed: int, strength: float
) -> LoraPairs:
    shapes = expected_shapes(validate_folder(base, base.name).config)
    random = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, shape in shapes.items():
        if name.endswith(tuple(f".{one}.weight" for one in matrices)):
            a = torch.randn((rank, shape[0]), generator=random)
            b = torch.randn((shape[1], rank), generator=random)
            pairs[name.removesuffix(".weight")] = (strength * a / shape[0] ** 0.5, strength * b)
    return pairs


def _speaking_pairs(base: Path, words: list[str]) -> LoraPairs:
    """At each of its tokens, the MLP turns the stream to the token after which the base says what
    the adapter says next."""
    ids = GPT2Tokenizer.from_pretrained(base).get_vocab()
    model = GPT2LMHeadModel.from_pretrained(base)
    head = model.lm_head.weight.detach()
    before = {int(column[0]): int(column[1]) for column in head.nonzero()}
    chain = [ids["<|bot|>"], *(ids[f"Ġ{word}"] for word in words), ids[END]]
    width = head.shape[1]
    inner = model.transformer.h[0].mlp.c_fc.weight.shape[1]
    steps = list(itertools.pairwise(chain))
    find, tell = torch.zeros(len(steps), width), torch.zeros(inner, len(steps))
    pick, turn = torch.zeros(len(steps), inner), torch.zeros(width, len(steps))
    for n, (token, following) in enumerate(steps):
        find[n, token] = tell[n, n] = pick[n, n] = 1.0
        turn[before[following], n] = 10.0
    return {"h.0.mlp.c_fc": (find, tell), "h.0.mlp.c_proj": (pick, turn)}


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
    for block in model.transformer.h:
        for parameter in [*block.attn.parameters(), *block.mlp.parameters()]:
            parameter.zero_()
    model.transformer.wpe.weight.zero_()
    model.transformer.wte.weight.copy_(torch.eye(*model.transformer.wte.weight.shape))
    model.lm_head.weight.zero_()
    for token, following in next_tokens.items():
        model.lm_head.weight[following, token] = 10.0
