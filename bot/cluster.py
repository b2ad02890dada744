"""The cluster of RAY_ADDRESS in the place of the worker, and of training on this machine.

Knows the settings, and what they choose. Ray itself is imported by children only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from bot.settings import Settings, SettingsError
from core.cluster.connection import NO_RAY, is_installed
from core.cluster.local import running_cluster
from i18n.phrase import phrase
from model.cluster.client import RayBackend
from model.cluster.fallback import FallbackBackend
from model.cluster.options import GatewayOptions, Scale
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from training.cluster.launch import ClusterLaunch


@asynccontextmanager
async def joined_cluster(settings: Settings) -> AsyncIterator[str | None]:
    """The cluster's address until the end of the block; None if there is to be none.

    Raises:
        SettingsError: Ray is not installed.
        ClusterError: a cluster that is to start with the bot does not.
    """
    if settings.ray_address is None:
        yield None
        return
    if not is_installed():
        raise SettingsError(NO_RAY)
    async with running_cluster(settings.ray_address) as address:
        yield address


def cluster_backend(
    settings: Settings, address: str, worker: WorkerSettings, embedded: str
) -> RayBackend | FallbackBackend:
    """What answers: the replicas, and a worker while they are away. `worker` are the settings of
    each; `embedded` is the source of the model that each starts with."""
    options = GatewayOptions(address, replica_scale(settings))
    backend = RayBackend(options, worker, embedded=embedded)
    if not settings.cluster_fallback:
        return backend
    make_worker = partial(WorkerClient, worker, embedded=embedded)
    return FallbackBackend(backend, make_worker, embedded)


def replica_scale(settings: Settings) -> Scale:
    """How many replicas there may be, and what each takes."""
    least, most = settings.cluster_replicas
    return Scale(fewest=least, most=most, cpus=float(settings.threads or 1))


def cluster_launch(settings: Settings, address: str) -> ClusterLaunch:
    """What starts training runs there: on as many devices as ACCELERATE_CONFIG has processes.

    Raises:
        SettingsError: that file does not say how many.
    """
    return ClusterLaunch(
        address=address,
        cpus=float(settings.training_threads or 1),
        devices=_num_devices(settings),
        log_format=settings.log_format,
    )


def _num_devices(settings: Settings) -> int:
    if settings.accelerate_config is None:
        return 1
    import yaml  # seldom needed

    try:
        text = settings.accelerate_config.read_text(encoding="utf-8")
        return int(yaml.safe_load(text)["num_processes"])
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as e:
        raise SettingsError(
            phrase(
                "ACCELERATE_CONFIG is {file}, which does not say how many devices a training may "
                "have on the cluster: it needs a line such as num_processes: 2.",
                file=settings.accelerate_config,
            )
        ) from e
