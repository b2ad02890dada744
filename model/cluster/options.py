"""Options of a cluster. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SILENCE_S = 5.0
"""Seconds without a sign of life after which a replica is lost."""
GONE_S = 20.0
"""Seconds without any sign of life after which the cluster is gone."""
GIVE_UP_S = 20.0
"""Seconds after the first loss of a reply in which another replica begins it again."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many replicas there are, by the number of replies under way: `fewest` to `most`, each
    with `cpus` processors and `gpus` graphics cards. A replica that runs `busy` replies, on average
    over `look_back_s`, is enough used. One that is to go has `drain_s` seconds for the replies that
    it has begun. It is replaced when it failed to answer for `health_timeout_s`, asked every
    `health_period_s`."""

    fewest: int = 1
    most: int = 8
    cpus: float = 1.0
    gpus: float = 0.0
    busy: float = 8.0
    drain_s: float = 120.0
    health_period_s: float = 5.0
    health_timeout_s: float = 15.0
    look_back_s: float = 30.0
    upscale_delay_s: float = 10.0
    downscale_delay_s: float = 300.0


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Where the cluster is, and how many replicas there are to be. `cache` is a folder on each node
    (None: the user's cache). A replica that gives no sign of life for `silence_s` seconds is lost,
    the cluster after `gone_s`; a reply that was lost is begun again for `give_up_s`. A replica
    supervises what `worker` makes, which takes the arguments of a WorkerClient and is used like one
    (None: a WorkerClient). `keeps_running`: replicas that run already are asked whatever they were
    given, and never ended."""

    address: str
    scale: Scale = Scale()
    cache: str | None = None
    silence_s: float = SILENCE_S
    gone_s: float = GONE_S
    give_up_s: float = GIVE_UP_S
    worker: Callable[..., Any] | None = None
    keeps_running: bool = False
