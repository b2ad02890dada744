"""The artifact: a folder with a model that is ready to run, built once from a checkpoint.

Knows its files. Does not know how they are made (`model.convert.build`) or run.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from model.convert.int8.quality import Int8Quality
from model.convert.shapes import ADAPTABLE_MATRICES, ATTENTION_MATRICES
from model.isolation import IsolatedTokenizer
from model.tokenizer import Tokenizer

GRAPH_FILE, WEIGHTS_FILE = "graph.onnx", "weights.bin"
ADAPTER_GRAPHS = {
    "graph.attention.onnx": ATTENTION_MATRICES,
    "graph.all.onnx": ADAPTABLE_MATRICES,
}
"""Graphs of the same weights that add an adapter to these matrices; those with fewest first."""
TOKENIZER_FILE, METADATA_FILE = "tokenizer.json", "model.json"
"""METADATA_FILE is written last. On a GPU there is no graph: torch reads the checkpoint itself."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """Facts of a model that are known without reading its weights.

    `stops` are stop strings and `ends` stop tokens; `mute` are all tokens that would end a reply
    before it began; `fragments` are tokens of less than a character; `never` are ids that are not
    text: the unknown token, and rows without a token. `isolated`: its template or tokenizer is run
    in a child. `japanese`: the vocabulary was made for it. `weight_bytes`: memory of the weights.
    `packs`: its graph reads several prompts at once. `int8`: how near it is to fp32, where that was
    measured. The names are those of the stored file.
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
    special_tokens: dict[str, str]
    chat_template: str
    isolated: bool
    stops: list[str]
    ends: list[int]
    mute: list[int]
    fragments: list[int]
    never: list[int]
    japanese: bool
    packs: bool
    int8: Int8Quality | None = None

    def save(self, folder: Path) -> None:
        """Write it, which completes the folder."""
        (folder / METADATA_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_metadata(folder: Path) -> ModelMetadata:
    """The metadata of an artifact."""
    stored = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    if stored.get("int8") is not None:
        stored["int8"] = Int8Quality(**stored["int8"])
    return ModelMetadata(**stored)


def read_built_models(cache: Path) -> Iterator[ModelMetadata]:
    """The metadata of all artifacts in a build cache, the least recently used first; those of other
    versions of this program are left out."""
    folders = [path.parent for path in cache.glob(f"*/{METADATA_FILE}")]
    for folder in sorted(folders, key=lambda one: one.stat().st_mtime):
        with contextlib.suppress(OSError, ValueError, TypeError):
            yield read_metadata(folder)


def read_tokenizer(folder: Path, meta: ModelMetadata) -> Tokenizer:
    """The tokenizer of an artifact."""
    file, special = folder / TOKENIZER_FILE, meta.special_tokens
    make = IsolatedTokenizer if meta.isolated else Tokenizer
    return make(file, special_tokens=special, chat_template=meta.chat_template)
