"""What a look at a cluster makes of a child that Ray ended."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from core.cluster import room
from core.cluster.connection import ClusterError

FOUND = room.Room("2.60.0", (room.Node("10.0.0.5", 2.0, 0.0, 4.0, is_head=True),), 1.0, 0.0)


@pytest.fixture
def tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in Python's place that answers at the second try; the folder has its tries."""
    program = tmp_path / "python"
    program.write_text(
        f"""#!/bin/sh
cd "{tmp_path}"
echo "the node is not there yet" >&2
[ -e first ] || {{ touch first; exit 1; }}
touch second
echo '{json.dumps(asdict(FOUND))}'
""",
        encoding="utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return tmp_path


async def test_a_child_that_ended_without_an_answer_is_asked_again(
    tries: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert await room.look("10.0.0.5:6379") == FOUND
    assert (tries / "second").exists()
    assert "the node is not there yet" in caplog.text


async def test_two_tries_are_enough(tries: Path) -> None:
    (tries / "python").write_text('#!/bin/sh\necho try >> "$0.tries"\nexit 1\n', encoding="utf-8")
    with pytest.raises(ClusterError, match="check that its head runs"):
        await room.look("10.0.0.5:6379")
    assert (tries / "python.tries").read_text(encoding="utf-8").count("try") == 2
