"""The models that people can choose: `model_options`, and the operator's own.

Knows names, sources and labels. Loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from i18n.catalogue import ENGLISH, JAPANESE
from i18n.phrase import Phrase, join_phrases, phrase
from model.errors import UnknownModel
from model.sampling import USUAL_TEMPERATURE

EMBEDDED_FOLDER = Path(__file__).with_name("tiny")
"""The folder of the embedded model that speaks English."""
EMBEDDED_NAME = "tiny"
EMBEDDED_FOLDER_JA, EMBEDDED_NAME_JA = Path(__file__).with_name("tiny_ja"), "tiny-ja"
"""The embedded model that speaks Japanese."""
_EMBEDDED_NAMES = {ENGLISH: EMBEDDED_NAME, JAPANESE: EMBEDDED_NAME_JA}
_DEFAULT_NAMES = {ENGLISH: "gpt2", JAPANESE: EMBEDDED_NAME_JA}


@dataclass(frozen=True, slots=True)
class ModelOption:
    """A model that people can choose by `name`; `source` is a folder or a Hub id.

    `memory_usage` is that of the weights on a CPU (int8, the embedding fp32); `inference_speed` is
    the decoding of one conversation, measured on two shared x86-64 cores (docs/benchmarks.md).
    `temperature` is the one at which its replies make most sense (`benchmarks.talk`).
    """

    name: str
    source: str
    parameters: str
    memory_usage: str
    inference_speed: str
    quality: str
    temperature: float = USUAL_TEMPERATURE


def _speed_label(speed: int) -> Phrase:
    return phrase("{speed} tokens/s on 2 CPU cores", speed=speed)


model_options: Mapping[str, ModelOption] = {
    option.name: option
    for option in (
        ModelOption(
            name=EMBEDDED_NAME,
            source=str(EMBEDDED_FOLDER),
            parameters="5.3M",
            memory_usage="11 MB",
            inference_speed=_speed_label(616),
            quality=phrase("small talk only; learns a few facts in a minute"),
            temperature=0.2,
        ),
        ModelOption(
            name=EMBEDDED_NAME_JA,
            source=str(EMBEDDED_FOLDER_JA),
            parameters="5.8M",
            memory_usage="12 MB",
            inference_speed=_speed_label(616),
            quality=phrase("Japanese small talk only; learns a few facts in a minute"),
            temperature=0.4,
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


def embedded_name(language: str) -> str:
    """The name of the embedded model that speaks a language, for one without any the English."""
    return _EMBEDDED_NAMES.get(language, EMBEDDED_NAME)


def embedded_option(language: str) -> ModelOption:
    """The embedded model that speaks a language, for one without any the English one."""
    return model_options[embedded_name(language)]


def is_embedded(name: str) -> bool:
    """Whether it is the name of an embedded model."""
    return name in _EMBEDDED_NAMES.values()


def embedded_name_of(source: str) -> str | None:
    """The name of an embedded model by its source; None of another one."""
    options = (one for one in model_options.values() if is_embedded(one.name))
    return next((one.name for one in options if one.source == source), None)


def base_family(name: str) -> str:
    """`tiny` for `tiny-3` and `tiny-3-1`: a checkpoint is named after its base."""
    return re.sub(r"(-\d+)+$", "", name)


def checkpoint_temperature(name: str) -> float:
    """The temperature for a checkpoint of that name: its base's."""
    base = model_options.get(base_family(name))
    return base.temperature if base else USUAL_TEMPERATURE


def default_name(language: str) -> str:
    """The model that answers where nobody chose one. GPT-2 speaks no Japanese."""
    return _DEFAULT_NAMES.get(language, _DEFAULT_NAMES[ENGLISH])


def fallback_message(reason: str, model: str) -> Phrase:
    """Says that the embedded model of that name answers, and why."""
    return join_phrases([reason, phrase("{model} answers instead.", model=model)])


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
