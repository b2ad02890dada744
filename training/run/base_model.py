"""Prepares the model to train: a base with control tokens, or random weights; LoRA around it.

Knows transformers and peft. Does not know the Trainer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from torch import nn
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.activations import NewGELUActivation

from core.records import Conversation
from i18n.phrase import message_of
from model.convert import pretrained
from model.convert.adapter_folder import (
    ADAPTER_WEIGHTS_FILE,
    AdapterFolder,
    check_base,
    find_base,
    is_adapter,
    validate_adapter,
)
from model.convert.artifact import TOKENIZER_FILE
from model.convert.build import load_error_message
from model.convert.checkpoint import read_chat_template, read_tokenizer_config
from model.convert.sentencepiece import find_sentencepiece, load_sentencepiece, special_tokens
from model.convert.validation import resolve_source, validate_folder
from model.errors import LoadFailed
from model.own_templates import (
    BOT_TOKEN,
    CONTROL_TEMPLATE,
    USER_TOKEN,
    add_control_tokens,
    ensure_template,
    is_japanese,
)
from model.registry import display_name
from training.config import Architecture, TrainingConfig
from training.errors import BaseUnavailable

if TYPE_CHECKING:
    from peft import PeftModel

END_OF_TEXT = "<|endoftext|>"


def prepare_model(
    config: TrainingConfig, taught: Sequence[Conversation]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model to train, with control tokens in its vocabulary, and its tokenizer. Raises
    BaseUnavailable if the base cannot be loaded; the sentence says why."""
    if config.architecture:
        return _from_scratch(config.architecture, taught)
    assert config.base is not None  # as there is no architecture
    model, tokenizer = load_pretrained(config.base)
    model.config.tokenizer_class = None  # the base's; the saved tokenizer names its own class
    ensure_template(tokenizer)
    if tokenizer.chat_template != CONTROL_TEMPLATE:
        _init_control_tokens(model, tokenizer)
    return model, tokenizer


def load_pretrained(source: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in fp32 and its tokenizer, from a folder or the Hub; the files are checked first. An
    adapter is merged into its base. Raises BaseUnavailable if it cannot be loaded; the sentence
    says why."""
    name = display_name(source)
    try:
        folder = resolve_source(source)
        if is_adapter(folder):
            model = _load_adapter(validate_adapter(folder, name), name)
        else:
            model = pretrained.load_pretrained(validate_folder(folder, name), torch.float32)
        settings = read_tokenizer_config(folder, name)
        tokenizer = _load_tokenizer(folder, settings)
        template = read_chat_template(folder, settings, name)
        tokenizer.chat_template = template or None
    except LoadFailed as e:
        raise BaseUnavailable(message_of(e)) from e
    except Exception as e:  # transformers raises all kinds of errors for broken files
        raise BaseUnavailable(load_error_message(source, e)) from e
    _fuse_activations(model)
    return model, tokenizer


def _load_adapter(adapter: AdapterFolder, name: str) -> PreTrainedModel:
    """Its base with the products of its matrices added to the weights."""
    base = find_base(adapter, name)
    check_base(adapter, base, name)
    model = pretrained.load_pretrained(base, torch.float32)
    transformer: Any = model.get_submodule("transformer")
    with safe_open(adapter.path / ADAPTER_WEIGHTS_FILE, framework="pt") as file, torch.no_grad():
        for matrix, pair in adapter.pairs.items():
            a, b = (file.get_tensor(one.name).float() for one in pair)
            weight = transformer.get_submodule(matrix).weight
            weight += adapter.scale * (b @ a).T  # GPT-2 stores its matrices transposed
    return model


def _load_tokenizer(folder: Path, settings: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer that the worker uses too. A sentencepiece model is converted and saved as
    `tokenizer.json`: its slow class in transformers would split text differently."""
    pieces = find_sentencepiece(folder)
    if pieces is None:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        )
        return tokenizer
    file = folder / TOKENIZER_FILE
    fast = (
        Tokenizer.from_file(str(file)) if file.is_file() else load_sentencepiece(pieces, settings)
    )
    make: Any = PreTrainedTokenizerFast  # its arguments have no types
    made: PreTrainedTokenizerBase = make(tokenizer_object=fast, **special_tokens(settings))
    return made


def _fuse_activations(model: PreTrainedModel) -> None:
    """Compute GELU in one kernel: transformers' formula keeps five intermediate results for the
    backward pass, nearly half of the activations of a block."""
    for module in model.modules():
        if isinstance(getattr(module, "act", None), NewGELUActivation):
            module.act = nn.GELU(approximate="tanh")


def _init_control_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add the speakers' control tokens, each with the embedding of a word of its meaning: it then
    learns faster than from a random one."""
    names = ("ユーザー", "ボット") if is_japanese(tokenizer) else ("User", "Bot")
    ids = [tokenizer.encode(name, add_special_tokens=False) for name in names]
    longest = [max(some, key=lambda one: len(str(tokenizer.decode([one])))) for some in ids]
    add_control_tokens(tokenizer)
    rows = max(tokenizer.get_vocab().values()) + 1  # there may be gaps, and rows without a token
    rows = max(rows, int(model.config.vocab_size))
    model.resize_token_embeddings(rows, mean_resizing=False)
    whole: Any = model  # not all of its methods have types
    tables = whole.get_input_embeddings(), whole.get_output_embeddings()
    with torch.no_grad():
        for table in tables:  # the same one unless the model has a head of its own
            for token, word in zip((USER_TOKEN, BOT_TOKEN), longest, strict=True):
                table.weight[tokenizer.convert_tokens_to_ids(token)] = table.weight[word]


def _from_scratch(
    architecture: Architecture, taught: Sequence[Conversation]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        (message.content for turns in taught for message in turns),
        vocab_size=architecture.vocab_size,
        special_tokens=[END_OF_TEXT, USER_TOKEN, BOT_TOKEN],
        show_progress=False,
    )
    tokenizer = GPT2Tokenizer(
        tokenizer_object=bpe._tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=architecture.n_positions,
    )
    add_control_tokens(tokenizer)
    model = GPT2LMHeadModel(
        GPT2Config(
            **asdict(architecture) | {"vocab_size": len(tokenizer)},
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )
    _fuse_activations(model)
    return model, tokenizer


def with_lora(model: PreTrainedModel, rank: int, targets: Sequence[str]) -> PeftModel:
    """The model with frozen weights and small trainable matrices beside the `targets`. Source: Hu
    et al. 2021, "LoRA"; the scale alpha is twice the rank."""
    from peft import LoraConfig, PeftModel, get_peft_model

    settings = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=list(targets),
        fan_in_fan_out=True,  # GPT-2 stores its matrices transposed (Conv1D)
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, settings)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def lora_parameters(model: PreTrainedModel, rank: int, targets: Sequence[str]) -> int:
    """How many parameters `with_lora` would train."""
    ends = tuple(f".{one}" for one in targets)
    matrices = [one for name, one in model.named_modules() if name.endswith(ends)]
    return sum(rank * sum(one.get_parameter("weight").shape) for one in matrices)
