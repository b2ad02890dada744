"""What a child process inherits."""

from __future__ import annotations

import os

import pytest

from core.subprocesses import child_environment

LAUNCHERS = {
    "torchrun": "LOCAL_RANK RANK GROUP_RANK ROLE_RANK ROLE_NAME LOCAL_WORLD_SIZE WORLD_SIZE "
    "GROUP_WORLD_SIZE ROLE_WORLD_SIZE MASTER_ADDR MASTER_PORT TORCHELASTIC_RUN_ID "
    "TORCHELASTIC_USE_AGENT_STORE",
    "accelerate": "ACCELERATE_USE_DEEPSPEED ACCELERATE_USE_FSDP",
    "mpirun": "OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE PMI_RANK PMI_SIZE MV2_COMM_WORLD_RANK",
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_child_takes_itself_for_no_part_of_a_launchers_group(
    launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LAUNCHERS[launcher].split():
        monkeypatch.setenv(name, "1")
    assert not child_environment().keys() & set(LAUNCHERS[launcher].split())


def test_a_child_gets_what_is_not_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "secret")
    monkeypatch.setenv("RANKING", "kept")
    ours = child_environment()
    assert "DISCORD_TOKEN" not in ours
    assert (ours["RANKING"], ours["PATH"]) == ("kept", os.environ["PATH"])
