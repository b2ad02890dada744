"""A model that is ready to run: a folder made once from a checkpoint, and found again by its hash.

Knows what lies in the folder. Does not know how it was made (`model.convert.build`) or how it runs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from model.tokenizer import Tokenizer

GRAPH_FILE, WEIGHTS_FILE, TOKENIZER_FILE, METADATA_FILE = (
    "graph.onnx",
    "weights.bin",
    "tokenizer.json",
    "model.json",
)
"""META is written last. For a GPU there is no graph: torch reads the checkpoint itself."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What is known of a model before its weights are read.

    `checkpoint` is the folder it came from. A reply ends before a text of `stops` and at one of the
    tokens `ends`; `mute` are all the tokens with which a reply would end before it began;
    `fragments` are less than a character; `unk_token` stands for unknown letters, if there are any.
    `japanese`: the vocabulary was made for that. `weight_bytes` is the memory of the weights.
    """

    checkpoint: str
    parameters: int
    positions: int
    vocabulary: int
    layers: int
    heads: int
    head_size: int
    precision: str
    weight_bytes: int
    eos_token: str
    chat_template: str
    stops: list[str]
    ends: list[int]
    mute: list[int]
    fragments: list[int]
    unk_token: str
    japanese: bool

    def save(self, folder: Path) -> None:
        """Write it: from then on the folder is whole."""
        (folder / METADATA_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_metadata(folder: Path) -> ModelMetadata:
    """The meta data of a folder that was built."""
    return ModelMetadata(**json.loads((folder / METADATA_FILE).read_text(encoding="utf-8")))


def read_tokenizer(folder: Path, meta: ModelMetadata) -> Tokenizer:
    """Its tokenizer."""
    return Tokenizer(
        folder / TOKENIZER_FILE,
        eos_token=meta.eos_token,
        chat_template=meta.chat_template,
        unk_token=meta.unk_token,
    )
