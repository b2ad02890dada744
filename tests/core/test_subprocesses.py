"""What a child process inherits, and to whom it gives way."""

from __future__ import annotations

import os
import sys
from asyncio.subprocess import PIPE

import pytest

from core.subprocesses import AUTOGROUP, child_environment, child_process

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


SHOW_PRIORITY = """
import os
from core.subprocesses import AUTOGROUP, lower_priority
lower_priority(12)
print(os.nice(0), AUTOGROUP.read_text().split()[-1] if AUTOGROUP.exists() else 12)
"""


async def test_a_child_gives_way_to_other_sessions_too() -> None:
    before = os.nice(0), AUTOGROUP.read_text() if AUTOGROUP.exists() else ""
    command = [sys.executable, "-c", SHOW_PRIORITY]
    async with child_process(command, grace_s=10, stdout=PIPE) as child:
        answer, _ = await child.communicate()
    nice, group = map(int, answer.split())
    assert (nice, group) == (min(before[0] + 12, 19), 12)
    assert before == (os.nice(0), AUTOGROUP.read_text() if AUTOGROUP.exists() else "")
