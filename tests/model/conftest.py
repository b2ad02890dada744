"""A real worker process for the tests of its client, and small models to load."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import torch

from core.records import Message, Role
from model import loading
from model.convert.build import build
from model.loading import LoadedModel
from model.registry import EMBEDDED_FOLDER
from model.runners.device import Device
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from tests.builds import BUILT, built
from tests.model_folders import make_endless_folder, make_model_folder
from tests.ray_cluster import RayCluster, connected, running_cluster

torch.set_num_threads(1)  # these models are small, and CI may be busy
CPU = Device("cpu", "fp32", "fp32")
CPU_INT8 = Device("cpu", "int8", "fp32")
HELLO = [Message(Role.USER, "hello")]


@pytest.fixture(scope="session")
async def client() -> AsyncIterator[WorkerClient]:
    """A worker that every test may use but none may kill."""
    built(EMBEDDED_FOLDER)
    async with WorkerClient(WorkerSettings(threads=2, build_cache=BUILT)) as client:
        yield client


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """Two nodes, of which a test may lose one if it adds another one."""
    yield from running_cluster(nodes=2)


@pytest.fixture(scope="module")
async def cluster_client(ray_cluster: RayCluster) -> AsyncIterator[WorkerClient]:
    """The same of a cluster with two replicas."""
    async with connected(ray_cluster, fewest=2) as client:
        yield client


def load(source: Path | str, device: Device = CPU, rows: int = 16) -> LoadedModel:
    """A model that is built in this very process, which costs less than a child."""
    build(str(source), BUILT, device.serving_precision)
    return loading.load(str(source), device, BUILT, rows=rows)


@pytest.fixture(scope="session")
def tiny() -> LoadedModel:
    return load(EMBEDDED_FOLDER)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that stay as they are."""
    path = tmp_path_factory.mktemp("models")
    make_model_folder(path / "random")
    make_model_folder(path / "plain", says="a plain answer", plain=True)
    make_model_folder(path / "embedded", says="at your service")
    built(make_model_folder(path / "red", says="red roses are in bloom"))
    make_model_folder(path / "silent", says="")
    built(make_endless_folder(path / "endless"))
    return path
