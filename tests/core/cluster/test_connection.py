"""What is said when there is no cluster at an address; nothing here starts Ray."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.cluster import connection
from core.cluster.connection import MODE_VARIABLE, ClusterError, connect


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "is_installed", lambda: True)
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.delenv(MODE_VARIABLE, raising=False)


@pytest.fixture
def silent_head() -> Iterator[str]:
    """One that takes connections, and never says anything."""
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        head.listen()
        yield f"127.0.0.1:{head.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_where_nothing_listens(nobody: str) -> None:
    with pytest.raises(ClusterError, match=f"at {nobody} cannot be reached .*: check that"):
        connect(nobody)


def test_where_the_head_of_this_node_is_away(
    nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For which Ray itself would wait for a minute, and then end the process."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"{nobody}\n")
    with pytest.raises(ClusterError, match=f"at {nobody} cannot be reached .*: check that"):
        connect("auto")


@pytest.mark.parametrize("address", ["here", "10.0.0.5:many"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ClusterError, match=f"RAY_ADDRESS is “{address}”, which is no address: use"):
        connect(address)


def test_ray_client_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(ClusterError, match=r"run `ray start --address=10\.0\.0\.5:6379 --num-cpus"):
        connect("ray://10.0.0.5:10001")


@pytest.mark.cluster  # who asks needs what Ray brings
def test_a_head_that_says_nothing_is_no_head_without_a_token(silent_head: str) -> None:
    """As when the network was cut: to go on without a token would be refused once it is back."""
    with pytest.raises(ClusterError, match="does not answer: check that its head runs"):
        connect(silent_head)
