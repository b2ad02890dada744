"""A Ray cluster for the tests of its replicas."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ray_cluster import RayCluster, running_cluster


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[RayCluster]:
    """Two nodes, of which a test may lose one if it adds another one."""
    yield from running_cluster(nodes=2)
