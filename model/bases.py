"""The models in memory that others may share: the bases of adapters.

Knows which folder and which state of its files each was loaded from, so that an adapter finds it
without reading it again. Does not keep any alive: whoever uses one does.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from model.convert.adapter_folder import weights_sha256, weights_state
from model.convert.artifact import ModelMetadata
from model.convert.validation import ModelFolder, allowed_files, resolve_source
from model.runners.base import Runner
from model.tokenizer import Tokenizer

FileStates = tuple[tuple[str, int, int], ...]
"""Names, sizes and times of files: what changes when one is replaced."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Base:
    """A model without an adapter. `trial_ids` is the beginning of a prompt, to try adapters with;
    `known_tokenizers` are hashes of tokenizers that were found to be the same as its own."""

    runner: Runner
    tokenizer: Tokenizer
    meta: ModelMetadata
    trial_ids: Sequence[int]
    known_tokenizers: set[str] = field(default_factory=set)


class Bases:
    """Bases by source and state of their files. May be asked by several threads at once."""

    def __init__(self) -> None:
        self._bases: WeakValueDictionary[tuple[str, FileStates], Base] = WeakValueDictionary()
        self._hashes: dict[FileStates, str] = {}
        self._checkpoints: dict[str, tuple[FileStates, ModelFolder]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def get(self, source: str, load: Callable[[str], Base]) -> Base:
        """The base of a source, loaded unless it is in memory with the files as they are now."""
        with self._locks[source]:
            before = _file_states(source)
            base = self._bases.get((source, before))
            if base is None:
                base = load(source)
                self._bases[source, before or _file_states(source)] = base
            return base

    def checkpoint(self, source: str, validate: Callable[[], ModelFolder]) -> ModelFolder:
        """The validated folder of a source, validated again only when its files have changed."""
        before, known = self._checkpoints.get(source, ((), None))
        now = _file_states(source)
        if known is None or before != now:
            known = validate()
            self._checkpoints[source] = now, known
        return known

    def sha256(self, checkpoint: ModelFolder) -> str:
        """The hash of a base's weights, read again only when the files have changed."""
        state = weights_state(checkpoint)
        with self._locks[str(checkpoint.path)]:
            if state not in self._hashes:
                self._hashes[state] = weights_sha256(checkpoint)
            return self._hashes[state]


def _file_states(source: str) -> FileStates:
    """Of all files from which a model is made; empty if it is not on this machine."""
    try:
        folder = resolve_source(source, download=False)
        facts = [(str(one), one.stat()) for one in sorted(allowed_files(folder))]
    except (OSError, ValueError, RuntimeError):
        return ()
    return tuple((name, one.st_size, one.st_mtime_ns) for name, one in facts)
