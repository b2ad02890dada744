"""A second opinion on whether a message asks what a taught question asks: English has one.

The classifier (`data.questions.paraphrases`) sees what the Universal Sentence Encoder makes of two
texts, which tells topics apart. MiniLM was trained on pairs that ask the same: it is seldom wrong
where the classifier is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.questions.encoders.encoder import Encoder, Vector
from data.questions.encoders.minilm import minilm
from i18n.catalogue import ENGLISH

WEIGHT, EVEN = np.array([4, 10], np.float32), np.array([0.6, 0.4], np.float32)
"""How much the nearness adds to the log odds of both chances (`meanings.Chance`), and from where on
it adds instead of taking away. Chosen on the facts for tuning."""
READ_AHEAD = 500
"""It takes some milliseconds for a question; further ones are read when they are first near."""
SURE = np.float32(1e-6)
"""A classifier is never surer than this that it is wrong."""


def second_encoder(language: str) -> Encoder | None:
    """The encoder that has its say beside the classifier of a language, if there is one."""
    return minilm() if language == ENGLISH else None


def read_ahead(questions: Sequence[str], language: str) -> None:
    """Read the last of these questions, which may be asked soon."""
    if questions and (second := second_encoder(language)):
        second.vectors(questions[-READ_AHEAD:])


def nearness_by(reader: Encoder, message: str, questions: Sequence[str]) -> Vector:
    """The cosine of a message and each question: (questions,)."""
    vectors = reader.vectors({message, *questions})
    return np.asarray([vectors[one] @ vectors[message] for one in questions], np.float32)


def shifted(chances: Vector, nearness: Vector) -> Vector:
    """The chances of each question (questions, 2), once the second encoder has had its say."""
    sure = chances.clip(SURE, 1 - SURE)
    shift = WEIGHT * (nearness[:, None] - EVEN)
    return np.asarray(1 / (1 + (1 - sure) / sure * np.exp(-shift)), np.float32)
