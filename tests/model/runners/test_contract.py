"""The contract of a runner, held against each of them: transformers' numbers, whoever else runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from core.records import Message, Role
from model.adapter import Adapter
from model.chat_template import build_prompt, encode_chat
from model.convert import onnx_graph
from model.convert.adapter_folder import validate_adapter
from model.convert.adapter_weights import read_adapter
from model.convert.artifact import read_metadata
from model.convert.build import build
from model.convert.shapes import ADAPTABLE_MATRICES
from model.loading import LoadedModel
from model.registry import EMBEDDED_FOLDER
from model.runners.base import Logits, Runner
from model.runners.device import Device
from model.runners.onnx_runner import OnnxRunner
from model.runners.torch_runner import TorchRunner
from tests.builds import BUILT
from tests.model.conftest import CPU_INT8, load
from tests.model_folders import make_adapter_folder

TEXTS = (
    "hi",
    "How are you doing on this fine day, my old friend?",
    "What do you like to eat?",
    "Tell me everything that you know about the sea, the ships and the people who sail on them.",
)


U, B = "user", "assistant"
HELD_OUT = (
    [(U, "I went to the market this morning."), (B, "Oh nice, what did you buy there?"),
     (U, "Some bread, a bag of apples and a piece of old cheese."), (B, "That sounds good to me.")],
    [(U, "My sister is learning to play the violin."), (B, "Does she like it so far?"),
     (U, "She does, but our neighbours do not."), (B, "Haha, I can understand both of them!")],
    [(U, "Do you think that it will rain tomorrow?"), (B, "I hope not, I want to go outside.")],
    [(U, "What is the best film that you have seen?"), (B, "I do not watch many films."),
     (U, "You should, they are fun."), (B, "Maybe I will watch one with my friends next week.")],
    [(U, "I am so tired today."), (B, "Did you not sleep well last night?"),
     (U, "The dog of my parents was barking all the time."), (B, "I am sorry to hear that.")],
    [(U, "Where do you come from?"), (B, "I live in a small town by the sea."),
     (U, "That must be beautiful in the summer."), (B, "It is, but the winters are very cold.")],
)  # fmt: skip


@cache
def reference() -> Any:
    return AutoModelForCausalLM.from_pretrained(str(EMBEDDED_FOLDER), dtype=torch.float32)


@cache
def adapted_reference() -> tuple[Adapter, Any]:
    """An adapter of all matrices, and transformers' model with what peft merges into it."""
    with TemporaryDirectory() as path:
        folder = make_adapter_folder(
            Path(path) / "mine", EMBEDDED_FOLDER, rank=5, seed=1, matrices=ADAPTABLE_MATRICES
        )
        plain = AutoModelForCausalLM.from_pretrained(str(EMBEDDED_FOLDER), dtype=torch.float32)
        merged: Any = PeftModel.from_pretrained(plain, str(folder))
        return read_adapter(validate_adapter(folder, "mine"), "mine"), merged.merge_and_unload()


def without_packing(device: Device) -> Runner:
    """Built by an ONNX Runtime whose attention takes no `query_seqlens`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graph, "can_pack", lambda: False)
        cache = BUILT / "without packing"
        folder = build(str(EMBEDDED_FOLDER), cache, device.serving_precision)
    runner = OnnxRunner(folder, read_metadata(folder), rows=ROWS, threads=1)
    assert not runner.packs
    return runner


ROWS = 16
MAKERS: dict[str, Callable[[], Runner]] = {
    "onnx fp32": lambda: load(EMBEDDED_FOLDER, rows=ROWS).runner,
    "onnx int8": lambda: load(EMBEDDED_FOLDER, CPU_INT8, rows=ROWS).runner,
    "onnx int8 without packing": lambda: without_packing(CPU_INT8),
    "torch fp32": lambda: TorchRunner(reference(), rows=ROWS, threads=1),
}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "with an adapter"])
def has_adapter(request: pytest.FixtureRequest) -> bool:
    """The whole contract holds for rows with an adapter as well."""
    return bool(request.param)


def make(name: str, has_adapter: bool) -> Runner:
    runner = MAKERS[name]()
    if has_adapter:
        adapter, _ = adapted_reference()
        runner.prepare(adapter)
        for row in range(ROWS):
            runner.use_adapter(row, adapter)
    return runner


@pytest.fixture(scope="module", params=MAKERS)
def runner(request: pytest.FixtureRequest, has_adapter: bool) -> Runner:
    return make(request.param, has_adapter)


@pytest.fixture(scope="module", params=[name for name in MAKERS if "int8" not in name])
def exact(request: pytest.FixtureRequest, has_adapter: bool) -> Runner:
    return make(request.param, has_adapter)


def prompt(loaded: LoadedModel, text: str) -> list[int]:
    return build_prompt(loaded.tokenizer, [Message(Role.USER, text)], 100).input_ids


def greedy(runner: Runner, ids: list[int], count: int) -> list[int]:
    said = [int(runner.prefill(0, ids, 0).argmax())]
    while len(said) < count:
        said.append(int(runner.decode([said[-1]], [len(ids) + len(said) - 1])[0].argmax()))
    return said


@pytest.mark.parametrize("text", TEXTS)
def test_greedy_is_what_transformers_generates(
    exact: Runner, has_adapter: bool, tiny: LoadedModel, text: str
) -> None:
    ids = torch.tensor([prompt(tiny, text)])
    theirs = adapted_reference()[1] if has_adapter else reference()
    out = theirs.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                               max_new_tokens=20)  # fmt: skip
    said = out[0, ids.shape[1] :].tolist()
    assert greedy(exact, prompt(tiny, text), len(said)) == said


def test_a_ragged_batch_says_what_each_would_say_alone(runner: Runner, tiny: LoadedModel) -> None:
    """Rows of different lengths; one is read while the others decode; one is moved."""
    prompts = [prompt(tiny, text) for text in TEXTS]
    alone = [greedy(runner, ids, 12) for ids in prompts]
    said = [[int(runner.prefill(row, prompts[row], 0).argmax())] for row in range(3)]

    def decode(rows: int) -> None:
        past = [len(prompts[row]) + len(said[row]) - 1 for row in range(rows)]
        logits = runner.decode([said[row][-1] for row in range(rows)], past)
        for row, scores in enumerate(logits):
            said[row].append(int(scores.argmax()))

    for _ in range(4):
        decode(3)
    runner.prefill(3, prompts[3][:7], 0)
    decode(3)
    said.append([int(runner.prefill(3, prompts[3][7:], 7).argmax())])
    decode(4)
    runner.copy_row(3, 0, len(prompts[3]) + len(said[3]) - 1)  # the first has ended
    prompts[0], said[0], alone[0] = prompts[3], said[3].copy(), alone[3]
    for _ in range(5):
        decode(3)
    for row in range(3):
        assert len(said[row]) > 6
        assert said[row] == alone[row][: len(said[row])]


def test_prompts_that_are_read_together_are_read_as_alone(
    runner: Runner, tiny: LoadedModel
) -> None:
    """In neighbouring rows, with and without a beginning that is there already, and one token."""
    prompts = [prompt(tiny, text) for text in TEXTS] + [[7]]
    past = [0, 4, 0, 11, 0]
    alone = [runner.prefill(0, ids, 0).copy() for ids in prompts]
    for row, (ids, length) in enumerate(zip(prompts, past, strict=True), 2):
        if length:
            runner.prefill(row, ids[:length], 0)
    chunks = [(ids[length:], length) for ids, length in zip(prompts, past, strict=True)]
    together = runner.prefill_together(2, chunks)
    assert together.shape == (5, len(alone[0]))
    for ids, one, logits in zip(prompts, alone, together, strict=True):
        if isinstance(runner, OnnxRunner) and len(ids) > 1:  # one token is summed in another order
            assert np.array_equal(one, logits)
        np.testing.assert_allclose(one, logits, atol=2e-4)
    for row, ids in enumerate(prompts):  # the cache of each holds what was read
        runner.restore(0, runner.save(row + 2, len(ids)), len(ids))
        after = runner.decode([300], [len(ids)])[0].copy()
        runner.prefill(1, ids, 0)
        runner.restore(0, runner.save(1, len(ids)), len(ids))
        np.testing.assert_allclose(runner.decode([300], [len(ids)])[0], after, atol=2e-4)


def cut(runner: Runner, ids: list[int], ends: list[int]) -> Logits:
    """The logits after a prompt that is read in pieces."""
    past = 0
    for end in [*ends, len(ids)]:
        logits = runner.prefill(1, ids[past:end], past)
        past = end
    return logits


def test_a_prompt_may_be_cut_anywhere(runner: Runner, tiny: LoadedModel) -> None:
    ids = prompt(tiny, TEXTS[3])
    whole = runner.prefill(0, ids, 0).copy()
    for ends in ([2, 4], [5, 7, 20], [len(ids) - 2]):
        np.testing.assert_allclose(cut(runner, ids, ends), whole, atol=2e-4)


def test_a_piece_of_one_token_changes_the_last_bits_at_most(
    exact: Runner, tiny: LoadedModel
) -> None:
    """Its sums are made in another order; int8 may then round an activation the other way."""
    ids = prompt(tiny, TEXTS[3])
    whole = exact.prefill(0, ids, 0).copy()
    for ends in ([1, 2], [5, 6, 20], [len(ids) - 1]):
        np.testing.assert_allclose(cut(exact, ids, ends), whole, atol=2e-4)


def test_a_row_that_was_saved_goes_on_in_another(runner: Runner, tiny: LoadedModel) -> None:
    ids = prompt(tiny, TEXTS[1])
    expected = greedy(runner, ids, 8)
    runner.prefill(2, ids[:-1], 0)
    saved = runner.save(2, len(ids) - 1)
    runner.release(2)
    runner.prefill(0, prompt(tiny, TEXTS[3]), 0)
    runner.restore(0, saved, len(ids) - 1)
    said = [int(runner.prefill(0, ids[-1:], len(ids) - 1).argmax())]
    while len(said) < 8:
        said.append(int(runner.decode([said[-1]], [len(ids) + len(said) - 1])[0].argmax()))
    assert said == expected


def test_memory_is_what_it_says(runner: Runner) -> None:
    saved = runner.save(0, 10)
    assert saved.nbytes == 10 * runner.kv_bytes_per_token
    assert runner.weight_bytes > 4_000_000


def perplexity(runner: Runner, conversations: list[list[int]]) -> float:
    """Of the tokens after the first, each conversation alone."""
    losses = []
    for ids in conversations:
        scores = [runner.prefill(0, ids[:1], 0).copy()]
        scores += [runner.decode([ids[n]], [n])[0].copy() for n in range(1, len(ids) - 1)]
        for row, target in zip(scores, ids[1:], strict=True):
            row = row.astype(np.float64)
            losses.append(np.log(np.exp(row - row.max()).sum()) + row.max() - row[target])
    return float(np.exp(np.mean(losses)))


def test_int8_is_within_one_percent_of_fp32(tiny: LoadedModel) -> None:
    """Talk that the embedded model never saw, token by token."""
    turns = [[Message(Role(who), text) for who, text in talk] for talk in HELD_OUT]
    held_out = [encode_chat(tiny.tokenizer, talk, add_generation_prompt=False) for talk in turns]
    exact = perplexity(tiny.runner, held_out)
    small = load(EMBEDDED_FOLDER, CPU_INT8).runner
    assert isinstance(small, OnnxRunner)
    assert abs(perplexity(small, held_out) / exact - 1) < 0.01
