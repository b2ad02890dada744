"""A checkpoint is whole or it is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from i18n.phrase import Phrase, phrase, serialize_phrase
from training.checkpoints import (
    LEARNED_FILE,
    MANIFEST_FILE,
    PACKED_REFUSAL_KEY,
    PACKED_SUMMARY_KEY,
    PACKED_WRONG_KEY,
    REPORT_FILE,
    Learned,
    Manifest,
    StoredReport,
    folder_bytes,
    iter_checkpoints,
    read_learned,
    read_manifest,
    read_report,
    remove_checkpoint,
    remove_leftovers,
    seal,
    verify,
)
from training.errors import CorruptCheckpoint


def make(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "history.json").write_text("{}")
    manifest = Manifest(
        name=folder.name,
        base="gpt2",
        created_at="2026-01-01T00:00:00+00:00",
        dataset_sha256="0" * 64,
        parameters=7,
        settings={"epochs": 3},
        scores={"last_loss": 1.5},
    )
    seal(folder, manifest)
    return folder


def test_a_sealed_folder_verifies_and_lists_its_files(tmp_path: Path) -> None:
    manifest = verify(make(tmp_path / "tiny-1"))
    assert set(manifest.files) == {"model.safetensors", "history.json"}
    assert manifest.files["model.safetensors"]["bytes"] == 7
    assert manifest.settings == {"epochs": 3}


def change(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / MANIFEST_FILE).unlink(), "has no manifest"),
        (change(MANIFEST_FILE, '{"name": '), "cannot be read"),
        (change(MANIFEST_FILE, '{"name": "x"}'), "cannot be read"),
        (change("model.safetensors", "weigh"), "model.safetensors is missing or cut short"),
        (lambda folder: (folder / "history.json").unlink(), "history.json is missing"),
        (change("model.safetensors", "WEIGHTS"), "model.safetensors was changed"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], object], sentence: str) -> None:
    folder = make(tmp_path / "tiny-1")
    damage(folder)
    with pytest.raises(CorruptCheckpoint, match=sentence):
        verify(folder)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "tiny-1")
    fields = json.loads((folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps(fields | {"format": 99}))
    with pytest.raises(CorruptCheckpoint, match="newer version"):
        read_manifest(folder)


def test_only_whole_folders_are_listed(tmp_path: Path) -> None:
    make(tmp_path / "tiny-2")
    make(tmp_path / "tiny-1")
    (make(tmp_path / "tiny-3") / MANIFEST_FILE).unlink()
    (tmp_path / "a file").write_text("")
    names = [manifest.name for _, manifest in iter_checkpoints(tmp_path)]
    assert names == ["tiny-1", "tiny-2"]
    assert list(iter_checkpoints(tmp_path / "nowhere")) == []


def test_the_manifest_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    folder = make(tmp_path / "tiny-1")
    fields = json.loads((folder / MANIFEST_FILE).read_text())
    for name in ("base_name", "parents", "examples", "seconds", "tokens_per_s", "device", "torch"):
        del fields[name]
    (folder / MANIFEST_FILE).write_text(json.dumps(fields))
    manifest = verify(folder)
    assert (manifest.base_name, manifest.parents, manifest.seconds) == ("", [], 0.0)


def test_what_a_manifest_says_of_its_making_is_kept(tmp_path: Path) -> None:
    written = Manifest(
        name="tiny-2",
        base="/srv/tiny-1",
        base_name="tiny-1",
        parents=["tiny-1"],
        created_at="2026-01-01T00:00:00+00:00",
        dataset_sha256="0" * 64,
        parameters=7,
        examples=3,
        seconds=1.5,
        tokens_per_s=100.5,
        device="cpu",
        torch="2.9.0",
        settings={},
        scores={},
    )
    seal(tmp_path, written)
    assert read_manifest(tmp_path) == written


def test_a_report_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    assert read_report(tmp_path) is None
    losses = {"general": {"base": 3.5, "serving": None, "new": 3.25}}
    fields = {"losses": losses, "refusal": "It had no answer.", "of a later version": 1}
    (tmp_path / REPORT_FILE).write_text(json.dumps(fields))
    assert read_report(tmp_path) == StoredReport(losses=losses, refusal="It had no answer.")
    for broken in ("[]", "{", "\xff"):
        (tmp_path / REPORT_FILE).write_text(broken, encoding="latin-1")
        assert read_report(tmp_path) is None


def test_a_refusal_that_was_packed_is_read_as_long_as_it_says_the_same(tmp_path: Path) -> None:
    refusal = phrase("It had no answer to “{asked}”.", asked="{Hi}")
    fields = {"refusal": refusal, PACKED_REFUSAL_KEY: serialize_phrase(refusal)}
    (tmp_path / REPORT_FILE).write_text(json.dumps(fields))
    report = read_report(tmp_path)
    assert report is not None
    assert isinstance(report.refusal, Phrase)
    assert report.refusal.translate_to("ja") == "「{Hi}」に答えられませんでした。"
    for other in ('{"text": ', serialize_phrase(phrase("It talks.")), 7, None):
        (tmp_path / REPORT_FILE).write_text(json.dumps(fields | {PACKED_REFUSAL_KEY: other}))
        assert read_report(tmp_path) == StoredReport(refusal="It had no answer to “{Hi}”.")


def test_what_came_of_the_questions_is_read_in_other_languages(tmp_path: Path) -> None:
    wrong = phrase("not the taught answer")
    summary = phrase("{known} of {all} taught answers known", known=2, all=3)
    failure = {"prompt": "Who?", "reply": "Me.", "wrong": wrong}
    packed = failure | {PACKED_WRONG_KEY: serialize_phrase(wrong)}
    fields = {"summary": summary, PACKED_SUMMARY_KEY: serialize_phrase(summary)}
    (tmp_path / REPORT_FILE).write_text(json.dumps(fields | {"failures": [packed, failure]}))
    report = read_report(tmp_path)
    assert report is not None
    assert [one["reply"] for one in report.failures] == ["Me.", "Me."]
    told = [report.summary, *(one["wrong"] for one in report.failures)]
    assert told == [summary, wrong, wrong]
    assert isinstance(report.summary, Phrase)
    assert report.summary.translate_to("ja") == "教わった答えは3個のうち2個を覚えています"
    assert [isinstance(one["wrong"], Phrase) for one in report.failures] == [True, False]


def test_a_removed_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    folder, other = make(tmp_path / "tiny-1"), make(tmp_path / "tiny-2")
    assert folder_bytes(folder) == sum(path.stat().st_size for path in folder.iterdir()) > 7
    remove_checkpoint(folder)
    assert list(tmp_path.iterdir()) == [other]


def test_an_interrupted_removal_is_no_checkpoint_and_is_swept_away(tmp_path: Path) -> None:
    folder, other = make(tmp_path / "tiny-1"), make(tmp_path / "tiny-2")
    folder.rename(tmp_path / ".tiny-1.removed")
    (tmp_path / ".tiny-1.removed" / MANIFEST_FILE).unlink()
    assert [found for found, _ in iter_checkpoints(tmp_path)] == [other]
    remove_checkpoint(make(tmp_path / "tiny-1"))  # the same name again
    (tmp_path / ".tiny-3.removed").mkdir()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize(
    ("text", "learned"),
    [
        ('{"pairs": ["a"], "answers": ["b"]}', Learned(frozenset("a"), frozenset("b"))),
        (
            '{"pairs": ["a"], "answers": ["b"], "judged": ["c"]}',
            Learned(frozenset("a"), frozenset("b"), frozenset("c")),
        ),
        ('{"pairs": ["a"]}', Learned(frozenset("a"))),  # of an earlier version
        ("{", Learned()),
        (None, Learned()),
    ],
)
def test_what_a_checkpoint_learned(tmp_path: Path, text: str | None, learned: Learned) -> None:
    if text is not None:
        (tmp_path / LEARNED_FILE).write_text(text)
    assert read_learned(tmp_path) == learned
