"""The runner of torch computes what transformers does, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from model.registry import EMBEDDED_FOLDER
from model.runners.base import Logits
from model.runners.torch_runner import TorchRunner

PROMPTS = ([5, 300, 42], list(range(200, 219)), [(7 * n) % 4000 + 90 for n in range(60)])


def load(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(str(EMBEDDED_FOLDER), dtype=dtype)
    return model.train(False)


@pytest.fixture(scope="module")
def small() -> PreTrainedModel:
    return load()


@pytest.fixture
def runner(small: PreTrainedModel) -> TorchRunner:
    return TorchRunner(small, rows=6, threads=1)


def alone(runner: TorchRunner, prompt: list[int], count: int) -> list[int]:
    """The first tokens of a greedy reply, read and decoded in row 0."""
    said = [int(runner.prefill(0, prompt, 0).argmax())]
    while len(said) < count:
        said.append(int(runner.decode([said[-1]], [len(prompt) + len(said) - 1])[0].argmax()))
    runner.release(0)
    return said


def decode(runner: TorchRunner, prompts: list[list[int]], said: list[list[int]]) -> Logits:
    """One more token for everybody; the scores."""
    past = [len(p) + len(s) - 1 for p, s in zip(prompts, said, strict=True)]
    scores = runner.decode([one[-1] for one in said], past)
    for one, row in zip(said, scores, strict=True):
        one.append(int(row.argmax()))
    return scores


def test_greedy_is_what_transformers_generates(small: PreTrainedModel, runner: TorchRunner) -> None:
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        out = small.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=None,
        )
        assert alone(runner, prompt, 20) == out[0, len(prompt) :].tolist()


def test_scores_are_those_of_transformers_up_to_the_last_position(
    small: PreTrainedModel, runner: TorchRunner
) -> None:
    ids = [(11 * n) % 4000 for n in range(small.config.n_positions)]
    with torch.inference_mode():
        theirs = small(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(runner.prefill(2, ids[:-1], 0), theirs[-2], atol=1e-4)
    runner.copy_row(2, 0, len(ids) - 1)
    np.testing.assert_allclose(runner.decode(ids[-1:], [len(ids) - 1])[0], theirs[-1], atol=1e-4)


def test_a_prompt_may_be_read_in_pieces(runner: TorchRunner) -> None:
    prompt = PROMPTS[2]
    whole = runner.prefill(0, prompt, 0)
    runner.prefill(3, prompt[:1], 0)
    runner.prefill(3, prompt[1:4], 1)
    pieces = runner.prefill(3, prompt[4:], 4)
    assert whole.dtype == np.float32
    assert whole.shape == (5120,)
    np.testing.assert_allclose(pieces, whole, atol=1e-4)
    assert pieces.argmax() == whole.argmax()


@pytest.mark.parametrize("padded", [False, True])
def test_a_ragged_batch_leaves_the_other_rows_alone(
    runner: TorchRunner, monkeypatch: pytest.MonkeyPatch, padded: bool
) -> None:
    """Padded, as on a GPU, a batch of 3 is computed as 4: over the row that is being read."""
    monkeypatch.setattr(runner, "_use_cuda_graphs", padded)
    expected = [alone(runner, prompt, 8) for prompt in PROMPTS]
    whole = runner.prefill(5, PROMPTS[1], 0)
    said = [[int(runner.prefill(n, prompt, 0).argmax())] for n, prompt in enumerate(PROMPTS)]
    runner.prefill(3, PROMPTS[1][:5], 0)
    for _ in range(7):
        assert decode(runner, list(PROMPTS), said).shape == (3, 5120)
    assert said == expected
    np.testing.assert_allclose(runner.prefill(3, PROMPTS[1][5:], 5), whole, atol=1e-4)


def test_a_row_goes_on_exactly_after_a_move_or_a_restore(runner: TorchRunner) -> None:
    prompt, row = PROMPTS[1], len(PROMPTS[1])
    said = int(runner.prefill(4, prompt, 0).argmax())
    saved = runner.save(4, row)
    assert saved.nbytes == saved.untyped_storage().nbytes() == row * runner.kv_bytes_per_token
    runner.copy_row(4, 0, row)
    expected = runner.decode([said], [row])
    runner.prefill(0, PROMPTS[2], 0)
    runner.restore(0, saved, row)
    np.testing.assert_array_equal(runner.decode([said], [row]), expected)


@pytest.mark.parametrize("release", [True, False])
def test_a_row_that_came_to_no_numbers_is_clean_for_the_next(
    runner: TorchRunner, release: bool
) -> None:
    expected = runner.prefill(0, PROMPTS[0], 0)
    runner.restore(0, torch.full_like(runner.save(0, 50), float("nan")), 50)
    if release:
        runner.release(0)
    runner.prefill(1, PROMPTS[2], 0)
    token = int(expected.argmax())
    np.testing.assert_array_equal(runner.prefill(0, PROMPTS[0], 0), expected)
    assert np.isfinite(runner.decode([token, token], [3, 60])).all()


def test_half_precision_gives_whole_scores() -> None:
    model = load(torch.bfloat16)
    runner = TorchRunner(model, rows=2, threads=1)
    scores = runner.prefill(0, PROMPTS[1], 0), runner.decode([5], [len(PROMPTS[1])])
    assert all(one.dtype == np.float32 and np.isfinite(one).all() for one in scores)
    assert runner.kv_bytes_per_token == 2 * 5 * 256 * 2
    assert runner.weight_bytes == 2 * model.num_parameters()
