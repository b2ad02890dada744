"""The list of whom was forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import StoreError
from core.records import NewExample
from data.storage.storage import Storage
from data.storage.tombstones import Tombstones
from tests.data.storage.records import ADA, BEN, NOON, said


def test_each_is_known_with_the_last_time(tmp_path: Path) -> None:
    path = tmp_path / "forgotten.json"
    long_ago = datetime(2000, 1, 1, tzinfo=UTC)
    assert Tombstones(path).since(long_ago) == []
    Tombstones(path).add(ADA)
    between = datetime.now(UTC)
    Tombstones(path).add(BEN)
    assert Tombstones(path).since(long_ago) == [ADA, BEN]
    assert Tombstones(path).since(between) == [BEN]
    Tombstones(path).add(ADA)
    assert Tombstones(path).since(between) == [ADA, BEN]
    assert Tombstones(path).since(datetime.now(UTC) + timedelta(seconds=1)) == []
    assert [one.name for one in tmp_path.iterdir()] == ["forgotten.json"]


def test_a_list_that_cannot_be_read_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "forgotten.json"
    path.write_text("{half")
    with pytest.raises(StoreError, match="cannot be read"):
        Tombstones(path).add(ADA)
    assert path.read_text() == "{half"


async def test_when_the_newest_was_written(storage: Storage) -> None:
    assert await storage.erasures.last_write_time() is None
    await storage.messages.add(said(1, "hello"))
    assert await storage.erasures.last_write_time() == NOON
    before = datetime.now(UTC)
    await storage.examples.add(NewExample(1, "a", "b", ADA, "teach"))
    taught = await storage.erasures.last_write_time()
    assert taught is not None
    assert taught >= before
    await storage.audit.record(1, ADA, "model use", "tiny")
    audited = await storage.erasures.last_write_time()
    assert audited is not None
    assert audited >= taught
