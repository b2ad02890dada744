"""The models that people can choose: `model_options`, and the operator's own.

Knows names, sources and labels. Loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from i18n.phrase import Phrase, join_phrases, phrase
from model.errors import UnknownModel

EMBEDDED_FOLDER = Path(__file__).with_name("tiny")
"""The folder of the embedded model."""
EMBEDDED_NAME = "tiny"


@dataclass(frozen=True, slots=True)
class ModelOption:
    """A model that people can choose by `name`; `source` is a folder or a Hub id.

    `memory_usage` is that of the weights on a CPU (int8, the embedding fp32); `inference_speed` is
    the decoding of one conversation, measured on two shared x86-64 cores (docs/benchmarks.md).
    """

    name: str
    source: str
    parameters: str
    memory_usage: str
    inference_speed: str
    quality: str


def _speed_label(speed: int) -> Phrase:
    return phrase("{speed} tokens/s on 2 CPU cores", speed=speed)


model_options: Mapping[str, ModelOption] = {
    option.name: option
    for option in (
        ModelOption(
            name=EMBEDDED_NAME,
            source=str(EMBEDDED_FOLDER),
            parameters="4.3M",
            memory_usage="9 MB",
            inference_speed=_speed_label(670),
            quality=phrase("small talk only; learns a few facts in a minute"),
        ),
        ModelOption(
            name="gpt2",
            source="gpt2",
            parameters="124M",
            memory_usage="0.3 GB",
            inference_speed=_speed_label(155),
            quality=phrase("fluent English; knows a little, makes up the rest"),
        ),
        ModelOption(
            name="gpt2-medium",
            source="gpt2-medium",
            parameters="355M",
            memory_usage="0.6 GB",
            inference_speed=_speed_label(56),
            quality=phrase("more coherent than gpt2, and slower"),
        ),
    )
}


CUSTOM_MODEL_LABELS = (
    phrase("see /about"),
    phrase("not measured"),
    phrase("not measured"),
    phrase("your own"),
)
"""The labels of a model that the operator added."""


def with_custom_models(extra: Mapping[str, str]) -> dict[str, ModelOption]:
    """`model_options` and the operator's own models, given as name to folder or Hub id."""
    own = {name: ModelOption(name, source, *CUSTOM_MODEL_LABELS) for name, source in extra.items()}
    return {**model_options, **own}


def display_name(source: str) -> str:
    """What people call the model of a source: the folder's name, or the Hub id."""
    return Path(source).name if Path(source).is_absolute() else source


def fallback_message(reason: str) -> Phrase:
    """Says that the embedded model answers, and why."""
    return join_phrases([reason, phrase("{model} answers instead.", model=EMBEDDED_NAME)])


def find_option(options: Iterable[ModelOption], name: str) -> ModelOption:
    """The option of that name.

    Raises:
        UnknownModel: the message lists the known names.
    """
    known = {option.name: option for option in options}
    if name not in known:
        raise UnknownModel(
            phrase(
                "There is no model called “{name}”. You can choose from: {names}.",
                name=name,
                names=join_phrases(sorted(known), ", "),
            )
        )
    return known[name]
