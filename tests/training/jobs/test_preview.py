"""What an admin reads before a run starts, held against what a run then does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from core.records import Conversation, Example
from data.dataset.cleaning import Selection, select_examples
from model.chat_template import from_pair
from model.own_templates import add_control_tokens
from model.registry import EMBEDDED_FOLDER
from tests.model_folders import make_tokenizer
from training.config import TrainingConfig
from training.jobs.estimate import KNOWN_SHAPES, peak_memory_mb
from training.jobs.preview import (
    CONTROL_TOKENS_PER_MESSAGE,
    MAX_SAMPLED_ROWS,
    MIN_MATMULS,
    Measured,
    preview,
)
from training.run import tokenization
from training.run.curriculum import make_curriculum
from training.run.distillation import FactRows
from training.run.mixing import mix_replay

ROOT = Path(__file__).parents[3]


def chosen(*pairs: tuple[str, str]) -> Selection:
    noon = datetime(2025, 6, 1, tzinfo=UTC)
    return select_examples(
        Example(n, 1, user, bot, 7, "teach", noon) for n, (user, bot) in enumerate(pairs)
    )


PAIRS = [("Who is our admin?", "It is Ada <|endoftext|> 🙂."), ("word " * 90, "That is long.")]
TAUGHT: list[Conversation] = [from_pair(user.strip(), bot) for user, bot in PAIRS]


def config(base: str | Path | None = EMBEDDED_FOLDER, **settings: object) -> TrainingConfig:
    return TrainingConfig(name="v1", base=base and str(base), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("replay", [0, 20])
def test_rows_tokens_and_steps_are_those_of_the_run(
    tokenizer: PreTrainedTokenizerBase, replay: int
) -> None:
    settings = config(replay=replay, max_length=64, batch_size=4, epochs=3)
    seen = preview(chosen(*PAIRS), settings, None)
    rows = tokenization.examples(tokenizer, mix_replay(settings, TAUGHT), 64, "bot")
    assert (seen.rows, seen.tokens, seen.exact) == (len(rows), sum(rows["length"]), True)
    assert seen.steps == 3 * -(-len(rows) // 4)
    assert seen.epochs == 3
    assert (
        seen.longest == max(tokenization.examples(tokenizer, TAUGHT, 10_000, "bot")["length"]) > 64
    )


def test_a_base_that_gets_control_tokens_only_in_the_run(tmp_path: Path) -> None:
    make_tokenizer(["word"], plain=True).save_pretrained(tmp_path)
    trained = make_tokenizer(["word"], plain=True)
    add_control_tokens(trained)
    rows = tokenization.examples(trained, TAUGHT, 1000, "bot")
    assert preview(chosen(*PAIRS), config(tmp_path, max_length=1000), None).tokens == sum(
        rows["length"]
    )


@pytest.mark.parametrize("base", ["gpt2", "somebody/their-model", None])
def test_without_a_tokenizer_here_characters_are_counted(base: str | None) -> None:
    seen = preview(chosen(("a" * 40, "b" * 41)), config(base), Measured(100.0, 30.0))
    assert not seen.exact
    assert seen.tokens == seen.longest == 81 // 4 + 2 * CONTROL_TOKENS_PER_MESSAGE


def test_a_broken_tokenizer_is_one_that_is_not_here(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    assert not preview(chosen(*PAIRS), config(tmp_path), Measured(100.0, 30.0)).exact


def test_a_large_data_set_is_sampled() -> None:
    pairs = [(f"question {n:05}", "a" * 20) for n in range(2 * MAX_SAMPLED_ROWS)]
    seen = preview(chosen(*pairs), config("gpt2"), Measured(100.0, 30.0))
    assert seen.rows == 2 * MAX_SAMPLED_ROWS
    assert seen.tokens == 2 * MAX_SAMPLED_ROWS * (34 // 4 + 2 * CONTROL_TOKENS_PER_MESSAGE)


def test_few_rows_are_seen_often() -> None:
    seen = preview(chosen(("a", "b")), config("gpt2", min_steps=100), Measured(100.0, 30.0))
    assert (seen.rows, seen.steps, seen.epochs) == (1, 100, 100)


@pytest.mark.parametrize("count", [1, 3, 10, 25])
def test_the_time_of_facts_is_that_of_the_rows_that_a_run_draws(
    tokenizer: PreTrainedTokenizerBase, count: int
) -> None:
    """Each step has as many rows, however few the facts are."""
    facts = [(f"Who looks after room {n}?", f"Room {n} has nobody.") for n in range(count)]
    settings = config(recipe="facts", batch_size=18, epochs=2, min_steps=20)
    seen = preview(chosen(*facts), settings, Measured(tokens_per_s=1.0, overhead_s=0.0))
    taught = [from_pair(*pair) for pair in facts]
    curriculum = make_curriculum(settings, taught, japanese=False)
    run = FactRows(curriculum, tokenizer, seen.steps, settings.max_length)
    assert seen.seconds == pytest.approx(seen.steps * run.tokens_per_step, rel=0.15)
    per_epoch = seen.steps / seen.epochs
    assert seen.tokens == pytest.approx(run.tokens_per_step * per_epoch, rel=0.15)


def test_an_earlier_runs_speed_gives_the_time() -> None:
    seen = preview(chosen(*PAIRS), config(epochs=4), Measured(50.0, overhead_s=30.0))
    assert seen.seconds == 30 + seen.tokens * 4 / 50


def test_an_example_counts_as_often_as_it_is_learned() -> None:
    once = chosen(("a", "b"))
    thrice = replace(once, kept=(replace(once.kept[0], weight=3),))
    assert preview(thrice, config()).rows == 3 * preview(once, config()).rows


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="a GPU's speed is not guessed")
def test_without_one_the_machines_speed_is_measured() -> None:
    few, many = (preview(chosen(*PAIRS), config(epochs=n), None).seconds for n in (1, 1000))
    assert few is not None
    assert many is not None
    assert 0 < few < many
    assert preview(chosen(*PAIRS), config("somebody/their-model"), None).seconds is None


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="a GPU's speed is not guessed")
def test_a_machine_that_stalls_meanwhile_is_not_taken_for_a_slow_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock goes on by a second from product to product, and once by a hundredth."""

    def guessed(*moments: float) -> float:
        clock = iter(moments)
        monkeypatch.setattr("time.perf_counter", lambda: next(clock))
        seen = preview(chosen(*PAIRS), config(), None).seconds
        monkeypatch.undo()
        assert seen is not None
        return seen

    calm = guessed(*(n / 100 for n in range(MIN_MATMULS + 1)))
    assert guessed(0.0, 0.01, *map(float, range(1, MIN_MATMULS))) == pytest.approx(calm)


def test_memory_is_that_of_the_longest_row() -> None:
    settings = config("gpt2", batch_size=2, loss_on="all", method="lora")
    seen = preview(chosen(("a" * 38, "b" * 38)), settings, Measured(1.0, 30.0))
    expected = peak_memory_mb(
        KNOWN_SHAPES["gpt2"], batch_size=2, max_length=23, method="lora", labelled=1.0
    )
    assert seen.memory_mb == expected
    assert preview(chosen(*PAIRS), config(None), Measured(1.0, 30.0)).memory_mb is None
    if seen.free_mb is not None:
        assert seen.free_mb > 0


def test_nothing_selected_costs_nothing() -> None:
    seen = preview(chosen(), config(), Measured(10.0, 30.0))
    assert (seen.rows, seen.tokens, seen.steps, seen.seconds) == (0, 0, 0, 0)


def test_it_imports_nothing_heavy_and_torch_never() -> None:
    code = (
        "import sys; from training.jobs.preview import Measured, preview\n"
        "assert not {'numpy', 'tokenizers', 'torch'} & set(sys.modules)\n"
        "from data.dataset.cleaning import select_examples\n"
        "from training.config import defaults_for\n"
        "from model.registry import EMBEDDED_FOLDER\n"
        "preview(select_examples([]), defaults_for('tiny', str(EMBEDDED_FOLDER), 1), None)\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
