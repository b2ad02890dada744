"""Machines are lost in the middle of replies: each is made elsewhere, and said once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.subprocesses import child_environment
from model.cluster.client import RayBackend
from model.cluster.options import SILENCE_S
from tests.model.cluster.replies import TINY, Reply, texts
from tests.model_folders import make_endless_folder
from tests.ray_cluster import RayCluster, connected, until_all_answer

pytestmark = pytest.mark.cluster

NUM_REPLIES = 12


def begin(backend: RayBackend, endless: str) -> list[Reply]:
    """Half of them draw by their seed, the other half would go on for very long."""
    return [Reply(backend, TINY if n % 2 else endless, n) for n in range(1, NUM_REPLIES + 1)]


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_endless_folder(tmp_path_factory.mktemp("models") / "endless"))


def kill_replica(cluster: RayCluster) -> None:
    next(one for node in cluster.nodes for one in cluster.replicas(node)).kill()


def kill_node(cluster: RayCluster) -> None:
    cluster.kill(cluster.nodes.pop())
    cluster.nodes.append(cluster.add_node())


def freeze_node(cluster: RayCluster) -> None:
    cluster.freeze(cluster.nodes.pop(0))  # where the channels are since the other one was killed
    cluster.nodes.append(cluster.add_node())


SKEWED = """
import sys
from dataclasses import replace
from core.cluster.connection import ClusterError, connect
from model.cluster.application import ensure_running, replica_options
from model.cluster.options import Scale
from model.settings import WorkerSettings
connect(sys.argv[1])
from ray import serve  # it reads its settings, which connect makes
options = replica_options(WorkerSettings(), Scale(1, 1), embedded="tiny", cache=sys.argv[2])
skewed = replace(options, build="0.0.1-abc")
large = Scale(1, 1, cpus=64, drain_s=1.0)
for wish, scale, limit_s in ((skewed, Scale(1, 1), 200.0), (options, large, 5.0)):
    try:
        ensure_running(wish, scale, limit_s)
    except ClusterError as e:
        print(e, flush=True)
    serve.delete("gpt2bot")
"""


async def test_other_versions_and_a_cluster_without_room_are_a_sentence(
    ray_cluster: RayCluster, tmp_path: Path
) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", SKEWED, ray_cluster.address, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env=child_environment(),
    )
    out, _ = await child.communicate()
    skew, room = out.decode().splitlines()[-2:]
    assert "install the bot's version on all machines" in skew
    assert "The cluster has no room for a replica, which takes 64 processors" in room


LOOK = """
import sys
from core.cluster.connection import connect
connect(sys.argv[1])
import ray
print("sent along:", dict(ray.get_runtime_context().runtime_env), flush=True)
"""


async def test_under_uv_run_no_folder_is_sent_to_the_cluster(
    ray_cluster: RayCluster, tmp_path: Path
) -> None:
    """Ray looks for a parent that is `uv run`; here it is a shell of that name."""
    (tmp_path / "run").write_text('"$PYTHON" -c "$LOOK" "$HEAD"\n:\n', encoding="utf-8")
    child = await asyncio.create_subprocess_exec(
        *("bash", "-c", "exec -a uv bash run"),
        stdout=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env=child_environment()
        | {"PYTHON": sys.executable, "LOOK": LOOK, "HEAD": ray_cluster.address},
    )
    out, _ = await child.communicate()
    assert out.decode().splitlines()[-1] == "sent along: {}"


async def test_replies_survive_the_loss_of_a_machine(ray_cluster: RayCluster, endless: str) -> None:
    async with connected(ray_cluster, fewest=2, silence_s=SILENCE_S) as backend:
        await backend.load(endless)
        expected = await texts(begin(backend, endless))
        for lose in (kill_replica, kill_node, freeze_node):
            await _lose(ray_cluster, backend, endless, lose, expected)


async def _lose(
    cluster: RayCluster,
    backend: RayBackend,
    endless: str,
    lose: Callable[[RayCluster], None],
    expected: list[str],
) -> None:
    async def num_moves() -> int:
        return sum(one.moves for one in await backend.replica_loads())

    await until_all_answer(backend, 2)
    before = await num_moves()
    replies = begin(backend, endless)
    await asyncio.gather(*(one.begun.wait() for one in replies))
    lose(cluster)
    assert await texts(replies) == expected, lose.__name__
    assert await num_moves() > before  # some had to begin again elsewhere
