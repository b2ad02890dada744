"""A batch computes what each of its sequences would compute alone, and what transformers does."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from data.schema import Message, Role
from model.chat import fit
from model.loading import Loaded
from model.sampling import SamplingParams
from model.sequence import Sequence
from model.torch_runner import TorchRunner

GREEDY = SamplingParams(temperature=0, repetition_penalty=1, no_repeat_ngram=0)
TEXTS = (
    "hi",
    "How are you doing on this fine day, my old friend?",
    "What do you like to eat?",
    "Tell me everything that you know about the sea, the ships and the people who sail on them.",
)


def runner_of(loaded: Loaded) -> TorchRunner:
    return TorchRunner(loaded.model, pad_id=0, mute=loaded.mute, threads=1)


def sequence(loaded: Loaded, text: str, params: SamplingParams = GREEDY, seed: int = 0) -> Sequence:
    prompt = fit(loaded.tokenizer, [Message(Role.USER, text)], 100)
    return Sequence(1, loaded.key, prompt.input_ids, params, seed)


def keep(said: Iterable[tuple[Sequence, int | None]]) -> None:
    for one, token in said:
        assert token is not None
        one.reply_ids.append(token)


def run_alone(loaded: Loaded, text: str, steps: int) -> list[int]:
    runner, one = runner_of(loaded), sequence(loaded, text)
    keep(runner.prefill([one]))
    for _ in range(steps - 1):
        keep(runner.decode())
    return one.reply_ids


def test_a_ragged_batch_says_what_each_would_say_alone(tiny: Loaded) -> None:
    """Sequences of different lengths join and leave in the middle; the longest leaves first."""
    runner = runner_of(tiny)
    a, b, c, d = (sequence(tiny, text) for text in TEXTS)
    keep(runner.prefill([a, d]))
    keep(runner.decode())
    keep(runner.decode())
    keep(runner.prefill([b]))
    keep(runner.decode())
    runner.drop([d])
    keep(runner.prefill([c]))
    for _ in range(10):
        keep(runner.decode())
    runner.drop([a, c])
    keep(runner.decode())
    runner.drop([b])
    again = sequence(tiny, TEXTS[0])
    keep(runner.prefill([again]))
    keep(runner.decode())
    for one, text in zip((a, b, c, d), TEXTS, strict=True):
        assert len(one.reply_ids) > 3
        assert one.reply_ids == run_alone(tiny, text, len(one.reply_ids))
    assert again.reply_ids == a.reply_ids[:2]


@pytest.mark.parametrize("text", TEXTS)
def test_greedy_is_what_transformers_generates(tiny: Loaded, text: str) -> None:
    ids = torch.tensor([sequence(tiny, text).prompt_ids])
    out = tiny.model.generate(  # type: ignore[operator]
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=20,
        use_cache=True,
    )
    theirs = out[0, ids.shape[1] :].tolist()
    assert run_alone(tiny, text, 20)[: len(theirs)] == theirs


def test_a_seed_gives_the_same_tokens_in_company(tiny: Loaded) -> None:
    params = SamplingParams(temperature=1.0)

    def draw(company: int) -> list[int]:
        runner, one = runner_of(tiny), sequence(tiny, TEXTS[1], params, seed=5)
        others = [sequence(tiny, TEXTS[n % 4], params, seed=n) for n in range(company)]
        keep(runner.prefill([*others, one]))
        for _ in range(15):
            keep(runner.decode())
        return one.reply_ids

    assert draw(0) == draw(3) == draw(7)
