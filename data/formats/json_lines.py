"""JSON lines: one record per line. Blank lines are skipped but count in the row numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from core.errors import ImportRefused
from core.records import Pair
from data.formats.chat_exports import export_error, json_export
from data.formats.encodings import read_text
from data.formats.import_result import ImportBuilder
from data.formats.records import encode_problems, read_record, to_record
from data.formats.registry import Problems
from i18n.phrase import phrase


def read(path: Path, name: str, into: ImportBuilder) -> None:
    text = read_text(path, name)
    if text.lstrip().startswith("["):
        raise ImportRefused(phrase("{name} is one list of records: name it .json.", name=name))
    lines = enumerate(text.split("\n"), 1)
    for number, line in into.count_rows((n, line) for n, line in lines if line.strip()):
        try:
            record = json.loads(line)
        except (RecursionError, ValueError):
            into.add_error(number, phrase("This line is no JSON."))
        else:
            if into.rows == 1 and (program := json_export([record])):
                raise ImportRefused(export_error(name, program))
            read_record(number, record, name, into)


def encode(pairs: Sequence[Pair]) -> bytes:
    return "".join(to_record(pair) + "\n" for pair in pairs).encode()


def annotate(path: Path, name: str, problems: Problems) -> bytes:
    return encode_problems(read_text(path, name).split("\n"), problems)
