"""A JSON file: one list of records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import ImportRefused
from core.records import Pair
from data.formats.chat_exports import export_error, json_export
from data.formats.encodings import read_text
from data.formats.import_result import ImportBuilder
from data.formats.records import encode_problems, read_record, to_record
from data.formats.registry import Problems
from i18n.phrase import phrase


def read(path: Path, name: str, into: ImportBuilder) -> None:
    for number, record in into.count_rows(enumerate(_load(path, name), 1)):
        read_record(number, record, name, into)


def encode(pairs: Sequence[Pair]) -> bytes:
    return ("[\n" + ",\n".join(map(to_record, pairs)) + "\n]\n").encode()


def annotate(path: Path, name: str, problems: Problems) -> bytes:
    return encode_problems(_load(path, name), problems)


def _load(path: Path, name: str) -> list[Any]:
    text = read_text(path, name)
    try:
        records = json.loads(text)
    except json.JSONDecodeError as e:
        if _is_json_lines(text):
            raise ImportRefused(
                phrase("{name} has a record on each line: name it .jsonl.", name=name)
            ) from e
        raise ImportRefused(
            phrase(
                "{name} is no JSON: there is a mistake in line {line}, column {column}.",
                name=name,
                line=e.lineno,
                column=e.colno,
            )
        ) from e
    except (RecursionError, ValueError) as e:
        raise ImportRefused(
            phrase("{name} is nested too deep, or has a number too long.", name=name)
        ) from e
    if program := json_export(records):
        raise ImportRefused(export_error(name, program))
    if not isinstance(records, list):
        raise ImportRefused(phrase('{name} must be a list of {{"user": …, "bot": …}}.', name=name))
    return records


def _is_json_lines(text: str) -> bool:
    try:
        return isinstance(json.loads(text.lstrip().partition("\n")[0]), dict)
    except (RecursionError, ValueError):
        return False
