"""The errors of this package.

ModelError
├── UnknownModel      no model has this name
├── LoadFailed        the weights or the tokenizer could not be loaded
├── RunawayModel      its chat template or tokenizer ran away
├── GenerationFailed  a request could not be answered
└── WorkerDied        the worker process ended while a request was pending

The message of each is a sentence that a person in Discord can read.
"""

from __future__ import annotations


class ModelError(Exception):
    """The base of this package's errors."""


class UnknownModel(ModelError):
    """No model has this name."""


class LoadFailed(ModelError):
    """The weights or the tokenizer could not be loaded."""


class RunawayModel(ModelError):
    """The model's chat template or tokenizer takes too much time or memory, or crashes.

    Those who know the model's name make it a sentence (`model.isolation.runaway_message`).
    """


class GenerationFailed(ModelError):
    """A request could not be answered."""


class WorkerDied(ModelError):
    """The worker process ended while a request was pending."""


def require(is_valid: bool, otherwise: str) -> None:
    """Raise LoadFailed with the message `otherwise` if a check of a model failed."""
    if not is_valid:
        raise LoadFailed(otherwise)
