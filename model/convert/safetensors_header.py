"""Reads and validates the header of an untrusted safetensors file, in pure Python.

The rules are those of the format (https://huggingface.co/docs/safetensors, "Format"). Knows bytes,
not models. No number of the header is used before it is checked against the size of the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from i18n.phrase import phrase

MAX_FORMAT_HEADER_BYTES = 100_000_000
"""The format's limit of a header."""
MAX_HEADER_BYTES = 8 << 20
"""Our limit, over ten times the header of the largest GPT-2."""
MAX_DIMENSIONS = 8
"""Of a tensor; those of GPT-2 have one or two, and a mask in old files has four."""
DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
"""Bytes of one number of each dtype."""


class InvalidHeader(Exception):
    """The file violates the format; the message continues a sentence that starts with its name."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor in a file."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> list[TensorInfo]:
    """The tensors of a file; their data must be contiguous, without a gap or overlap.

    Raises:
        InvalidHeader: it is not a complete safetensors file.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = _header_length(file, size)
        entries = _parse(file.read(length))
    _require(
        _is_string_map(entries.pop("__metadata__", {})), phrase("has notes that are not texts")
    )
    places = sorted((_data_offsets(name, entry), name) for name, entry in entries.items())
    end = 0
    for (first, after), name in places:
        message = phrase("has a gap or an overlap at {tensor}", tensor=_printable(name))
        _require(first == end, message)
        end = after
    left = size - 8 - length - end
    _require(left >= 0, phrase("is cut short"))
    _require(left == 0, phrase("has data that belong to no tensor"))
    return [
        TensorInfo(path, name, one["dtype"], tuple(one["shape"])) for name, one in entries.items()
    ]


def _header_length(file: BinaryIO, size: int) -> int:
    """The first eight bytes, a little-endian unsigned integer."""
    beginning = file.read(8)
    _require(len(beginning) == 8, phrase("is cut short"))
    length = int.from_bytes(beginning, "little")
    _require(
        length <= MAX_FORMAT_HEADER_BYTES, phrase("has a longer header than the format allows")
    )
    _require(length <= MAX_HEADER_BYTES, phrase("has a longer header than any GPT-2 needs"))
    _require(8 + length <= size, phrase("is cut short"))
    return length


def _parse(header: bytes) -> dict[str, Any]:
    _require(header.startswith(b"{"), phrase("has no header"))
    try:
        entries = json.loads(header.decode(), object_pairs_hook=_reject_duplicates)
    except (ValueError, RecursionError) as e:
        raise InvalidHeader(phrase("has a header that cannot be read")) from e
    if not isinstance(entries, dict):
        raise InvalidHeader(phrase("has a header that cannot be read"))
    return entries


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    _require(len(found) == len(pairs), phrase("names something twice"))
    return found


def _is_string_map(notes: object) -> bool:
    return isinstance(notes, Mapping) and all(isinstance(one, str) for one in notes.values())


def _data_offsets(name: str, entry: object) -> tuple[int, int]:
    """The start and end of a tensor's data, relative to the end of the header."""
    tensor = _printable(name)
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise InvalidHeader(phrase("does not say what {tensor} is", tensor=tensor))
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise InvalidHeader(phrase("has {tensor} in an unknown format", tensor=tensor))
    _require(_is_size_list(shape), phrase("has no shape for {tensor}", tensor=tensor))
    if not _is_size_list(place) or len(place) != 2:
        raise InvalidHeader(phrase("does not say where {tensor} is", tensor=tensor))
    if place[1] - place[0] != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise InvalidHeader(phrase("has another size for {tensor} than its shape", tensor=tensor))
    return place[0], place[1]


def _is_size_list(numbers: object) -> bool:
    """Whether it is a short list of integers from 0 (`True` is an int to Python, but not here)."""
    return (
        isinstance(numbers, list)
        and len(numbers) <= MAX_DIMENSIONS
        and all(type(one) is int and 0 <= one < 1 << 63 for one in numbers)
    )


def _printable(name: str) -> str:
    """A tensor's name, shortened and without control characters."""
    return ascii(name[:80])


def _require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise InvalidHeader(otherwise)
