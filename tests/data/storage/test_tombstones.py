"""The list of whom was forgotten."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import StoreError
from core.records import NewExample
from data.storage.storage import Storage
from data.storage.tombstones import Tombstones
from tests.data.storage.records import ADA, BEN, CLEO, NOON, said


def test_the_order_is_that_of_the_numbers(tmp_path: Path) -> None:
    erased = Tombstones(tmp_path / "forgotten.json")
    assert (erased.since(0, NOON), erased.last()) == ([], 0)
    assert erased.add(ADA, after=0) == 1
    assert erased.add(BEN, after=0) == 2
    assert erased.since(0, NOON) == [ADA, BEN]
    assert erased.since(1, NOON) == [BEN]
    assert erased.add(ADA, after=1) == 3
    assert erased.since(2, NOON) == [ADA]
    assert erased.since(3, NOON) == []
    assert erased.add(CLEO, after=7) == erased.last() == 8
    assert [one.name for one in tmp_path.iterdir()] == ["forgotten.json"]


def test_what_an_earlier_version_wrote_has_a_time_only(tmp_path: Path) -> None:
    path = tmp_path / "forgotten.json"
    path.write_text(json.dumps({str(ADA): NOON.isoformat(), str(BEN): "2000-01-01T00:00:00+00:00"}))
    assert Tombstones(path).since(0, NOON) == [ADA]
    assert Tombstones(path).add(BEN, after=0) == 1
    assert Tombstones(path).since(0, NOON + timedelta(seconds=1)) == [BEN]


def test_a_list_that_cannot_be_read_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "forgotten.json"
    path.write_text("{half")
    with pytest.raises(StoreError, match="cannot be read"):
        Tombstones(path).add(ADA, after=0)
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
    writes = (
        storage.audit.record(1, ADA, "model use", "tiny"),
        storage.consents.opt_in(1, ADA, 1),
        storage.consents.opt_out(1, ADA),
        storage.replies.rate(1, 100, ADA, 1),
        storage.pauses.add(1, ADA),
        storage.model_choices.set_active(1, "tiny"),
    )
    for write in writes:
        before = datetime.now(UTC)
        await write
        written = await storage.erasures.last_write_time()
        assert written is not None
        assert written >= before
