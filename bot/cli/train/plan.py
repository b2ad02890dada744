"""What a training run in the terminal learns, and with which settings.

Knows the settings of /retrain. Does not know the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bot.cli.train.request import HeldOutSplit, TrainRequest, hold_out
from bot.learning.retraining import Overrides
from core.records import Conversation
from i18n.phrase import phrases
from model.registry import base_family
from training.config import (
    MAX_FACTS,
    TAUGHT_FILE_PAIRS,
    Method,
    TrainingConfig,
    defaults_for,
)
from training.run.mixing import normalized_question


def plan_run(
    request: TrainRequest,
    conversations: Sequence[Conversation],
    overrides: Overrides,
    chosen: Mapping[str, Any],
    *,
    taught: bool | None,
    tell: Callable[[str], None],
) -> tuple[TrainRequest, HeldOutSplit]:
    """The request with all its settings, and its data: what is `taught` as /retrain learns it, with
    nothing held out; talk is imitated. None: by the data. `overrides` and other `chosen` settings
    replace the defaults; `tell` gets a sentence about what is left out."""
    if taught is None:
        taught = _is_taught(request.source, conversations)
    if taught:
        conversations = _newest_answers(conversations, tell)
    pairs = len(conversations) if taught else MAX_FACTS + 1
    usual = _default_config(request.config, pairs, overrides.method, taught=taught)
    config = replace(overrides.apply(usual), **chosen)
    split = HeldOutSplit(conversations, []) if taught else hold_out(conversations, config.seed)
    return replace(request, config=config), split


def _is_taught(source: str, conversations: Sequence[Conversation]) -> bool:
    """A public data set is talk: it has many answers to a question."""
    few = len(conversations) < TAUGHT_FILE_PAIRS
    return few and Path(source).is_file() and all(len(turns) == 2 for turns in conversations)


def _default_config(
    config: TrainingConfig, pairs: int, method: Method | None, *, taught: bool
) -> TrainingConfig:
    """The defaults of /retrain. Talk keeps only the method, the learning rate and the threads of
    these: it is learned as it is, without older talk."""
    usual = defaults_for(base_family(config.base_name), config.base or "", pairs, method)
    if not taught:
        return replace(
            config,
            method=usual.method,
            learning_rate=usual.learning_rate,
            threads=usual.threads,
        )
    return replace(
        usual,
        name=config.name,
        base=config.base,
        base_name=config.base_name,
        precision=config.precision,
        seed=config.seed,
        language=config.language,
        shared_bases=config.shared_bases,
    )


def _newest_answers(
    conversations: Sequence[Conversation], tell: Callable[[str], None]
) -> list[Conversation]:
    """The last answer to each question, as /retrain learns it. Longer conversations are kept."""
    newest = {
        normalized_question(turns) if len(turns) == 2 else turns: turns for turns in conversations
    }
    if older := len(conversations) - len(newest):
        tell(
            phrases(
                "{count} answer was left out: the file has a later one to the same question.",
                "{count:,} answers were left out: the file has later ones to the same questions.",
                older,
            )
        )
    return list(newest.values())
