"""A folder arrives as it was sent, or not at all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from core.cluster import parcels
from core.cluster.connection import ClusterError
from core.cluster.parcels import (
    IN_USE_S,
    KEEP_S,
    PARTIAL_PREFIX,
    Parcel,
    ParcelCache,
    ParcelFile,
    describe,
    read_chunks,
    unpack,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    (path / "deep" / "er").mkdir(parents=True)
    (path / "weights").write_bytes(bytes(range(256)) * 40)
    (path / "deep" / "er" / "settings.json").write_text("{}", encoding="utf-8")
    (path / "empty").touch()
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        one.relative_to(folder).as_posix(): one.read_bytes()
        for one in folder.rglob("*")
        if one.is_file()
    }


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_a_folder_arrives_whole_in_chunks_of_any_size(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(parcels, "CHUNK_BYTES", size)
    parcel = describe(folder)
    chunks = list(read_chunks(folder, parcel))
    assert all(0 < len(one) <= size for one in chunks)
    unpack(parcel, chunks, tmp_path / "there")
    assert contents(tmp_path / "there") == contents(folder)


def test_equal_folders_are_one_parcel_and_others_are_not(folder: Path, tmp_path: Path) -> None:
    parcel = describe(folder)
    unpack(parcel, read_chunks(folder, parcel), tmp_path / "twin" / "model")
    assert describe(tmp_path / "twin" / "model").digest == parcel.digest
    assert describe(folder, name="other").digest != parcel.digest
    (folder / "weights").write_bytes(b"other")
    assert describe(folder).digest != parcel.digest


def test_only_the_chosen_files_are_sent(folder: Path, tmp_path: Path) -> None:
    parcel = describe(folder, [folder / "empty"])
    unpack(parcel, read_chunks(folder, parcel), tmp_path / "there")
    assert contents(tmp_path / "there") == {"empty": b""}


def test_it_takes_the_place_of_an_older_folder(folder: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "old").touch()
    parcel = describe(folder)
    unpack(parcel, read_chunks(folder, parcel), there)
    assert contents(there) == contents(folder)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:\\evil", "..", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for parcel in (
        Parcel("model", (ParcelFile(name, 0, empty),)),
        Parcel(name, (ParcelFile("fine", 0, empty),)),
    ):
        with pytest.raises(ClusterError, match="leads out of its folder"):
            ParcelCache(tmp_path / "cache").add(parcel, [])
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    "chunks",
    [[b"short"], [b"x" * 10], [b"0123456789", b"more"]],
    ids=["cut short", "other bytes", "too much"],
)
def test_damaged_bytes_leave_nothing(tmp_path: Path, chunks: list[bytes]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"0123456789")
    with pytest.raises(ClusterError, match="arrived damaged"):
        unpack(describe(source), chunks, tmp_path / "there" / "model")
    assert list((tmp_path / "there").iterdir()) == []


def test_a_node_keeps_a_parcel_and_finds_it_by_its_digest(folder: Path, tmp_path: Path) -> None:
    cache, parcel = ParcelCache(tmp_path / "cache"), describe(folder)
    assert cache.find(parcel.digest) is None
    there = cache.add(parcel, read_chunks(folder, parcel))
    assert there.name == "model"
    assert contents(there) == contents(folder)
    assert ParcelCache(tmp_path / "cache").find(parcel.digest) == there
    assert cache.add(parcel, iter([])) == there  # nothing is read again


def test_what_was_not_used_for_longest_is_removed(folder: Path, tmp_path: Path) -> None:
    roomy, parcel = ParcelCache(tmp_path / "cache"), describe(folder)
    old, newer, newest, fourth = (replace(parcel, name=name) for name in "abcd")
    for age, one in ((4, old), (3, newer), (2, newest)):
        home = roomy.add(one, read_chunks(folder, one)).parent
        long_ago = home.stat().st_mtime - age * IN_USE_S
        os.utime(home, (long_ago, long_ago))
    roomy.find(old.digest)  # in use again
    cache = ParcelCache(tmp_path / "cache", limit=2 * parcel.size)
    cache.add(fourth, read_chunks(folder, fourth))
    kept = {one.name for one in (old, newer, newest, fourth) if cache.find(one.digest)}
    assert kept == {"a", "d"}


def test_what_nobody_uses_is_removed_after_a_day_or_at_once(folder: Path, tmp_path: Path) -> None:
    cache, parcel = ParcelCache(tmp_path / "cache"), describe(folder)
    cache.drop()  # there is no cache yet
    ages = {"used": IN_USE_S / 2, "idle": 2 * IN_USE_S, "old": 1.1 * KEEP_S}
    parcels_of = {name: replace(parcel, name=name) for name in ages}
    for name, one in parcels_of.items():
        home = cache.add(one, read_chunks(folder, one)).parent
        os.utime(home, (home.stat().st_mtime - ages[name],) * 2)

    def kept() -> set[str]:
        return {one.name for home in (tmp_path / "cache").iterdir() for one in home.iterdir()}

    cache.drop()
    assert kept() == {"used", "idle"}
    partial = tmp_path / "cache" / f"{PARTIAL_PREFIX}x" / "new"
    partial.mkdir(parents=True)
    os.utime(partial.parent, (partial.stat().st_mtime - 2 * IN_USE_S,) * 2)
    cache.drop(0.0)
    assert kept() == {"used", "new"}, "one is being written"


def test_folders_that_come_and_go_meanwhile_hinder_nobody(tmp_path: Path) -> None:
    """Several threads unpack other parcels while each looks what may be evicted."""
    cache = ParcelCache(tmp_path / "cache")
    folders = []
    for n in range(40):
        folder = tmp_path / str(n) / "model"
        for part in range(10):
            (folder / f"part-{part}").mkdir(parents=True)
            (folder / f"part-{part}" / "weights").write_text(f"{n} {part}")
        folders.append(folder)

    def add(folder: Path) -> Path:
        parcel = describe(folder)
        return cache.add(parcel, read_chunks(folder, parcel))

    with ThreadPoolExecutor(16) as threads:
        added = list(threads.map(add, folders))
    texts = [(one / "part-3" / "weights").read_text() for one in added]
    assert texts == [f"{n} 3" for n in range(40)]
