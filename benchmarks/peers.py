"""The peers of the benchmark of generation: other engines that run the same model folder.

Each converts the folder when it is made, and then answers lists of prompts as one batch. Each is
meant to run in a process of its own, and imports its library only when it is made.
"""

from __future__ import annotations

import ctypes
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from model.sampling import SamplingParams

Times = tuple[float, float]
"""Of the first token and of the end of a reply, as of `time.perf_counter()`."""


class Peer(Protocol):
    """An engine that runs the model of a folder."""

    def answer(self, prompts: list[list[int]], params: SamplingParams) -> list[Times]:
        """Makes one reply of exactly `params.max_new_tokens` tokens to each prompt.

        All prompts, as token ids, are handed over at once.

        Raises:
            RuntimeError: a reply has another length.
        """
        ...


def available() -> list[str]:
    """The names in PEERS whose library is installed."""
    llama = ["llama_cpp", "gguf"]
    needs = {"ctranslate2": ["ctranslate2"], "llama.cpp": llama, "llama.cpp q4_0": llama}
    return [name for name in PEERS if all(find_spec(one) for one in needs.get(name, []))]


def quiet() -> None:
    """Transformers prints errors only."""
    import transformers

    log: Any = transformers.utils.logging
    log.set_verbosity_error()
    log.disable_progress_bar()


# --- transformers --------------------------------------------------------------------------------


class Generate:
    """Transformers' `generate()`: fp32 on the CPU, or 16 bits on a GPU if there is one."""

    def __init__(self, folder: str, threads: int | None) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from model.runners.device import best_device

        quiet()
        if threads:
            torch.set_num_threads(threads)
        device = best_device("fp32")
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        dtype = dtypes[device.serving_precision]
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self._model: Any = model.to(device.name).train(False)

    def answer(self, prompts: list[list[int]], params: SamplingParams) -> list[Times]:
        import torch

        steps: list[float] = []

        def after_a_token(input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            steps.append(time.perf_counter())
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

        width = max(map(len, prompts))
        pads = [[0] * (width - len(one)) for one in prompts]
        ids = [pad + one for pad, one in zip(pads, prompts, strict=True)]
        mask = [pad + [1] * len(one) for pad, one in zip(pads, prompts, strict=True)]
        self._model.generate(
            input_ids=torch.tensor(ids).to(self._model.device),
            attention_mask=torch.tensor(mask).to(self._model.device),
            do_sample=True,
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            repetition_penalty=params.repetition_penalty,
            no_repeat_ngram_size=params.no_repeat_ngram,
            min_new_tokens=params.max_new_tokens,
            max_new_tokens=params.max_new_tokens,
            pad_token_id=0,
            stopping_criteria=[after_a_token],
        )
        _check_length(len(steps), params)
        return len(prompts) * [(steps[0], time.perf_counter())]


# --- CTranslate2 ---------------------------------------------------------------------------------


class CTranslate2:
    """CTranslate2 with int8 weights, on the CPU.

    It reads the prompts of a batch at once only as far as the shortest goes, and the rest of the
    longer ones token by token.
    """

    def __init__(self, folder: str, threads: int | None) -> None:
        import ctranslate2

        quiet()
        self._names = _vocabulary(folder)
        self._folder = tempfile.TemporaryDirectory()
        converter = ctranslate2.converters.TransformersConverter(folder)
        converter.convert(self._folder.name, quantization="int8", force=True)
        self._generator = ctranslate2.Generator(
            self._folder.name,
            device="cpu",
            compute_type="int8",
            inter_threads=1,
            intra_threads=threads or os.cpu_count() or 1,
        )

    def answer(self, prompts: list[list[int]], params: SamplingParams) -> list[Times]:
        steps: list[list[float]] = [[] for _ in prompts]
        results = self._generator.generate_batch(
            [[self._names[token] for token in one] for one in prompts],
            max_length=params.max_new_tokens,
            min_length=params.max_new_tokens,
            sampling_temperature=params.temperature,
            sampling_topk=params.top_k,
            sampling_topp=params.top_p,
            repetition_penalty=params.repetition_penalty,
            no_repeat_ngram_size=params.no_repeat_ngram,
            include_prompt_in_result=False,
            callback=lambda step: steps[step.batch_id].append(time.perf_counter()),
        )
        for result in results:
            _check_length(len(result.sequences_ids[0]), params)
        return [(times[-params.max_new_tokens], times[-1]) for times in steps]


# --- llama.cpp -----------------------------------------------------------------------------------

Row = tuple[int, int, int, bool]
"""A token to read: id, position, sequence, and whether the next token is wanted after it."""


class LlamaCpp:
    """llama.cpp with matrices in `weights`, a format of gguf's. It has no counterpart of
    `no_repeat_ngram`."""

    BATCH = 2048

    def __init__(self, folder: str, threads: int | None, weights: str = "Q8_0") -> None:
        import gguf  # noqa: F401
        import llama_cpp

        self._lib: Any = llama_cpp
        self._threads = threads or os.cpu_count() or 1
        self._silence = llama_cpp.llama_log_callback(lambda *_: None)  # has to outlive the model
        llama_cpp.llama_log_set(self._silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name, "model.gguf")
        _write_gguf(Path(folder), path, weights)
        self._model = self._lib.llama_model_load_from_file(
            str(path).encode(), self._lib.llama_model_default_params()
        )
        if not self._model:
            raise RuntimeError("llama.cpp did not load the model")
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self._batch = self._lib.llama_batch_init(self.BATCH, 0, 1)
        self._size = (0, 0)
        self._context: Any = None
        self._reserve(sequences=16, cells=4096)

    def answer(self, prompts: list[list[int]], params: SamplingParams) -> list[Times]:
        cells = sum(map(len, prompts)) + len(prompts) * params.max_new_tokens
        self._reserve(len(prompts), cells)
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), False)
        samplers = [self._sampler(params) for _ in prompts]
        steps: list[list[float]] = [[] for _ in prompts]
        rows = [
            (token, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        for step in range(params.max_new_tokens):
            tokens = list(self._read(rows, samplers, steps))
            rows = [(tokens[n], len(one) + step, n, True) for n, one in enumerate(prompts)]
        for sampler in samplers:
            self._lib.llama_sampler_free(sampler)
        return [(times[0], times[-1]) for times in steps]

    def _read(
        self, rows: Sequence[Row], samplers: Sequence[Any], steps: list[list[float]]
    ) -> Iterator[int]:
        """The next tokens of the sequences, in order; adds the time of each to `steps`."""
        for start in range(0, len(rows), self.BATCH):
            piece = rows[start : start + self.BATCH]
            self._decode(piece)
            for n, (_, _, sequence, wanted) in enumerate(piece):
                if wanted:
                    yield self._lib.llama_sampler_sample(samplers[sequence], self._context, n)
                    steps[sequence].append(time.perf_counter())

    def _decode(self, rows: Sequence[Row]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for n, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[n] = token
            batch.pos[n] = position
            batch.n_seq_id[n] = 1
            batch.seq_id[n][0] = sequence
            batch.logits[n] = wanted
        if self._lib.llama_decode(self._context, batch):
            raise RuntimeError("llama.cpp did not read the batch")

    def _sampler(self, params: SamplingParams) -> Any:
        lib = self._lib
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        words = lib.llama_vocab_n_tokens(self._vocab)
        last, penalty = params.max_new_tokens, params.repetition_penalty
        for sampler in (
            lib.llama_sampler_init_penalties(words, last, penalty, 0.0, 0.0),
            lib.llama_sampler_init_top_k(params.top_k),
            lib.llama_sampler_init_top_p(params.top_p, 1),
            lib.llama_sampler_init_temp(params.temperature),
            lib.llama_sampler_init_dist(lib.LLAMA_DEFAULT_SEED),
        ):
            lib.llama_sampler_chain_add(chain, sampler)
        return chain

    def _reserve(self, sequences: int, cells: int) -> None:
        """A context for so many sequences, with so many tokens in all."""
        if sequences <= self._size[0] and cells <= self._size[1]:
            return
        if self._context:
            self._lib.llama_free(self._context)
        self._size = (max(sequences, self._size[0]), max(cells, self._size[1]))
        options = self._lib.llama_context_default_params()
        options.n_seq_max, options.n_ctx = self._size
        options.n_batch, options.n_ubatch = self.BATCH, 512
        options.n_threads = options.n_threads_batch = self._threads
        options.kv_unified = True
        self._context = self._lib.llama_init_from_model(self._model, options)
        if not self._context:
            raise RuntimeError("llama.cpp made no context")


GGUF_NAMES = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def _write_gguf(folder: Path, path: Path, weights: str) -> None:
    """A GPT-2 with tied embeddings as llama.cpp reads it: matrices in `weights`, the rest in
    fp32."""
    import gguf

    writer = gguf.GGUFWriter(path, "gpt2")
    _add_settings(writer, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    writer.add_token_list(_vocabulary(folder))
    _add_weights(writer, folder / "model.safetensors", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_settings(writer: Any, config: dict[str, Any]) -> None:
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_merges(["! !"])  # some have to be there; no text is tokenized with them


def _add_weights(writer: Any, path: Path, weights: str) -> None:
    import gguf
    from safetensors.numpy import load_file

    dtype = gguf.GGMLQuantizationType[weights]
    for key, weight in load_file(path).items():
        name, kind = key.removeprefix("transformer.").rsplit(".", 1)
        block, part = "", name
        if name.startswith("h."):
            _, number, part = name.split(".", 2)
            block = f"blk.{number}."
        name = f"{block}{GGUF_NAMES[part]}.{kind}"
        if weight.ndim == 1 or part == "wpe":
            writer.add_tensor(name, weight)
        else:  # the matrices of a block are stored as [in, out]
            rows = weight.T.copy() if block else weight
            packed = gguf.quants.quantize(rows, dtype)
            writer.add_tensor(name, packed, raw_dtype=dtype)


# --- what they share -----------------------------------------------------------------------------


def _vocabulary(folder: str | Path) -> list[str]:
    """The names of the tokens, in the order of their ids."""
    tokenizer = json.loads(Path(folder, "tokenizer.json").read_text(encoding="utf-8"))
    ids: dict[str, int] = dict(tokenizer["model"]["vocab"])
    ids |= {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    return sorted(ids, key=ids.__getitem__)


def _check_length(tokens: int, params: SamplingParams) -> None:
    if tokens != params.max_new_tokens:
        raise RuntimeError(f"a reply ended after {tokens} tokens")


PEERS: dict[str, Callable[[str, int | None], Peer]] = {
    "generate": Generate,
    "ctranslate2": CTranslate2,
    "llama.cpp": LlamaCpp,
    "llama.cpp q4_0": partial(LlamaCpp, weights="Q4_0"),
}
