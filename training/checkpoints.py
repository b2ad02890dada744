"""Checkpoint folders: their files, how they are sealed, verified and removed.

A folder holds a model, or an adapter and where its base is; both open with plain
`AutoModelForCausalLM.from_pretrained`. `manifest.json` is written last
and names each file with its size and SHA-256, so a folder without a manifest is not a checkpoint.
Imports neither torch nor transformers: the bot's process reads manifests.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from dataclasses import fields as dataclass_fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.records import GoldenScore
from i18n.phrase import deserialize_phrase, phrase
from training.errors import CorruptCheckpoint

MANIFEST_FILE = "manifest.json"
HISTORY_FILE = "history.json"
LOSS_CURVE_FILE = "loss.png"
REPORT_FILE = "report.json"
LEARNED_FILE = "learned.json"
"""`{"pairs": [...]}`: the digests of the pairs that it learned (`data.dataset.snapshot`)."""
PACKED_REFUSAL_KEY, PACKED_SUMMARY_KEY = "refusal_packed", "summary_packed"
PACKED_WRONG_KEY, PACKED_VOTES_KEY = "wrong_packed", "votes_packed"
"""Sentences of a report once more, as `serialize_phrase` packs them: for other languages."""
REMOVED_SUFFIX = ".removed"
"""The suffix of a folder that is being removed."""
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a checkpoint is made of. `files` maps a name to `{"bytes", "sha256"}`.

    `base` is a folder or a Hub id, `base_name` what people call it; `parents` are the checkpoints
    that it came from, newest first. `consent` maps the members whose words were learned to the
    version of the consent that each had given, or null if they handed over all of them on purpose,
    or only voted. `seconds` is the time of the whole run, `overhead_s` that of its start and checks
    alone, which the next run has too: not of votes, a receipt, or waiting. `adapter` says of an
    adapter the SHA-256 of its base's weights file and its rank.
    `preferences_sha256` is that of the votes and better answers, "" if nothing was learned of them.
    Manifests of earlier versions lack the fields with a default."""

    name: str
    base: str | None
    created_at: str
    dataset_sha256: str
    parameters: int
    settings: dict[str, Any]
    scores: dict[str, float]
    base_name: str = ""
    parents: list[str] = field(default_factory=list)
    examples: int = 0
    seconds: float = 0.0
    overhead_s: float = 0.0
    tokens_per_s: float = 0.0
    device: str = ""
    torch: str = ""
    consent: dict[str, int | None] = field(default_factory=dict)
    adapter: dict[str, Any] | None = None
    preferences_sha256: str = ""
    format: int = FORMAT_VERSION
    files: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Learned:
    """Digests of the pairs that a checkpoint was taught, and of their answers, without those that
    are too short to belong to one question only. `judged` are those of what it learned of votes and
    better answers: good pairs and bad ones. Checkpoints of earlier versions lack the last two."""

    pairs: frozenset[str] = frozenset()
    answers: frozenset[str] = frozenset()
    judged: frozenset[str] = frozenset()

    @property
    def seen(self) -> frozenset[str]:
        """Of all pairs whose words it learned, for better or worse."""
        return self.pairs | self.judged


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReport:
    """The evaluation of a checkpoint, as it was stored (`training.run.gate.evaluation`).

    `answers` have a `prompt`, and the replies `before` and `after`. `summary` is what came of
    asking it as people do, in one line; each of the `failures` has a `prompt`, the `reply`, and
    what is `wrong`. `votes` says what was learned of them. Earlier versions stored none of these.
    `losses` (in nats a token) are
    those of `base`, `serving` and `new` on `general` talk and on what was taught (`own`). `data`
    counts the examples that were `added`, `removed` and the `same`. `refusal` is the sentence, if
    it did not pass. Each of the `golden` outcomes has the result of the `new` model and of the one
    `before` (`training.run.gate.golden`)."""

    answers: list[dict[str, str | None]] = field(default_factory=list)
    losses: dict[str, dict[str, float | None]] = field(default_factory=dict)
    data: dict[str, int] | None = None
    seconds: float | None = None
    refusal: str | None = None
    summary: str | None = None
    failures: list[dict[str, str]] = field(default_factory=list)
    votes: str | None = None
    golden: list[dict[str, Any]] = field(default_factory=list)

    @property
    def lost_golden(self) -> frozenset[int]:
        """The ids of the golden questions that the model in service passed and the new one did
        not, but for those of which that was chance."""
        outcomes = ((one["new"], one["before"]) for one in self.golden if not one.get("by_chance"))
        return frozenset(
            new["question"]["id"]
            for new, before in outcomes
            if before and _score(before).passed and not _score(new).passed
        )

    def golden_scores(self, model: str) -> list[GoldenScore]:
        """How the checkpoint, under its name, answered the golden questions."""
        return [_score(one["new"], model) for one in self.golden]


def _score(result: Mapping[str, Any], model: str = "") -> GoldenScore:
    """The stored result of a golden question as that of a `model`, asked now."""
    return GoldenScore(
        golden_id=result["question"]["id"],
        model=model,
        alone=result["alone"],
        in_talk=result["in_talk"],
        needed=result["question"]["needed"],
        asked_at=datetime.now(UTC),
    )


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder whose other files are complete."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST_FILE
    }
    unfinished = folder / f".{MANIFEST_FILE}"
    text = json.dumps(asdict(manifest) | {"files": files}, indent=2) + "\n"
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(folder / MANIFEST_FILE)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a sealed folder. Raises CorruptCheckpoint if there is none, or it cannot be
    read."""
    try:
        fields = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        manifest = Manifest(**fields)
    except FileNotFoundError as e:
        raise CorruptCheckpoint(
            phrase("{name} has no manifest: its training never finished.", name=folder.name)
        ) from e
    except (OSError, ValueError, TypeError) as e:
        raise CorruptCheckpoint(
            phrase("The manifest of {name} cannot be read.", name=folder.name)
        ) from e
    if manifest.format != FORMAT_VERSION:
        raise CorruptCheckpoint(
            phrase("{name} was written by a newer version of the bot.", name=folder.name)
        )
    return manifest


def verify(folder: Path) -> Manifest:
    """The manifest, after the size and the SHA-256 of every file were compared with it. Raises
    CorruptCheckpoint: the sentence names the file."""
    manifest = verify_sizes(folder)
    for name, facts in manifest.files.items():
        if sha256(folder / name) != facts["sha256"]:
            raise CorruptCheckpoint(
                phrase("{name} is damaged: {file} was changed.", name=folder.name, file=name)
            )
    return manifest


def verify_sizes(folder: Path) -> Manifest:
    """The manifest, after the sizes only were compared: quick, as no content is read. Raises
    CorruptCheckpoint: the sentence names the file."""
    manifest = read_manifest(folder)
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            raise CorruptCheckpoint(
                phrase(
                    "{name} is damaged: {file} is missing or cut short.",
                    name=folder.name,
                    file=name,
                )
            )
    return manifest


def read_report(folder: Path) -> StoredReport | None:
    """The stored evaluation of a checkpoint; None if it is missing or cannot be read."""
    try:
        fields = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(fields, Mapping):
        return None
    known = {one.name for one in dataclass_fields(StoredReport)}
    report = StoredReport(**{name: value for name, value in fields.items() if name in known})
    return replace(
        report,
        refusal=_unpack(report.refusal, fields.get(PACKED_REFUSAL_KEY)),
        summary=_unpack(report.summary, fields.get(PACKED_SUMMARY_KEY)),
        votes=_unpack(report.votes, fields.get(PACKED_VOTES_KEY)),
        failures=[
            one | {"wrong": _unpack(one["wrong"], one.get(PACKED_WRONG_KEY)) or ""}
            for one in report.failures
        ],
    )


def _unpack(sentence: str | None, packed: str | None) -> str | None:
    """The sentence as a Phrase, if it was packed as one."""
    unpacked = deserialize_phrase(str(packed))
    return unpacked if unpacked == sentence else sentence


def read_learned(folder: Path) -> Learned:
    """What a checkpoint learned; nothing if the folder is another model."""
    try:
        learned = json.loads((folder / LEARNED_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Learned()
    kinds = (learned["pairs"], learned.get("answers", ()), learned.get("judged", ()))
    return Learned(*map(frozenset, kinds))


def steps_taken(folder: Path) -> int | None:
    """The steps of the run that made a checkpoint; None if its history cannot be read."""
    try:
        history = json.loads((folder / HISTORY_FILE).read_text(encoding="utf-8"))
        return int(history["log"][-1]["step"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def iter_checkpoints(root: Path) -> Iterator[tuple[Path, Manifest]]:
    """The folders directly under `root` that have a readable manifest, by name."""
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        try:
            yield folder, read_manifest(folder)
        except CorruptCheckpoint:
            continue


def folder_bytes(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint. Without its manifest, which goes first, no half of one is ever loaded.
    Raises OSError if something of it could not be removed; `remove_leftovers` tries again."""
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    hidden = folder.with_name(f".{folder.name}{REMOVED_SUFFIX}")
    shutil.rmtree(hidden, ignore_errors=True)
    shutil.rmtree(folder.rename(hidden))  # under another name: its own is free at once


def remove_leftovers(root: Path) -> None:
    """Remove what interrupted removals left under `root`."""
    for hidden in root.glob(f".*{REMOVED_SUFFIX}"):
        shutil.rmtree(hidden, ignore_errors=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
