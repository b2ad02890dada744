"""The Serve application: puts replicas on the cluster, or finds those that run already.

Knows Serve, how many replicas are wanted, and when an application has to be replaced. Does not know
what replicas are asked. Everything here blocks; Ray is imported by the functions that need it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core.cluster.connection import ClusterError
from i18n.phrase import phrase
from model.cluster.messages import ReplicaFacts, ReplicaOptions, build_id, skew_message
from model.cluster.options import Scale
from model.registry import EMBEDDED_NAME
from model.settings import WorkerSettings

log = logging.getLogger(__name__)

APPLICATION, DEPLOYMENT = "gpt2bot", "Replica"
SKEWED = "of the cluster has gpt2-discord-bot"
"""In the sentence of a replica that has another version."""
NO_ROOM = "to be scheduled"
"""In what Serve says of replicas for which it finds no place."""
ONE_LOOP = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}
"""Saves each piece of a reply the way between two threads: a replica only waits for its worker."""
POLL_S = 0.25
DRAIN_POLL_S = 0.5
"""How often a replica that is to go looks whether it has finished its replies."""


def build_application(options: ReplicaOptions, scale: Scale) -> Any:
    """The application, for `serve.run`."""
    from ray import serve
    from ray.serve.config import RequestRouterConfig

    from model.cluster.replica import Replica

    settings = options.settings
    deployment = serve.deployment(Replica).options(
        name=DEPLOYMENT,
        max_ongoing_requests=settings.max_sequences + settings.max_waiting,
        request_router_config=RequestRouterConfig(
            request_router_class="model.cluster.router.ChannelRouter",
            request_router_kwargs={"room": settings.max_sequences},
        ),
        autoscaling_config={
            "min_replicas": scale.fewest,
            "initial_replicas": scale.fewest,
            "max_replicas": scale.most,
            "target_ongoing_requests": scale.busy,
            "look_back_period_s": scale.look_back_s,
            "upscale_delay_s": scale.upscale_delay_s,
            "downscale_delay_s": scale.downscale_delay_s,
        },
        ray_actor_options={
            "num_cpus": scale.cpus,
            "num_gpus": scale.gpus,
            "runtime_env": {"env_vars": ONE_LOOP},
        },
        graceful_shutdown_timeout_s=scale.drain_s,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_S,
        health_check_period_s=scale.health_period_s,
        health_check_timeout_s=scale.health_timeout_s,
    )
    return deployment.bind(options)


def replica_options(
    settings: WorkerSettings, scale: Scale, *, embedded: str, cache: str | None = None
) -> ReplicaOptions:
    """What replicas are given by a bot with these settings. Each has `scale.cpus` threads; the
    folders of the bot's machine mean nothing to them."""
    theirs = replace(settings, build_cache=None, threads=max(1, int(scale.cpus)))
    wish = hashlib.sha256(f"{theirs} {scale} {embedded} {cache}".encode()).hexdigest()
    return ReplicaOptions(build_id(), wish, embedded, theirs, cache)


def from_config(args: Mapping[str, Any]) -> Any:
    """The application for those who start it by a Serve config file (`import_path`), such as a
    RayService: a bot then takes the replicas as it finds them. `args` may have `replicas` ("1:8"),
    `cpus` of each, `embedded` (the name of a model), `memory_mb` and `cache_mb`."""
    least, _, most = str(args.get("replicas", "1:8")).partition(":")
    cpus = float(args.get("cpus", 1))
    scale = Scale(fewest=int(least), most=int(most or least), cpus=cpus)
    usual = WorkerSettings()
    settings = replace(
        usual,
        memory_mb=float(args.get("memory_mb", usual.memory_mb)),
        cache_mb=float(args.get("cache_mb", usual.cache_mb)),
    )
    options = replica_options(settings, scale, embedded=str(args.get("embedded", EMBEDDED_NAME)))
    return build_application(replace(options, wish=""), scale)


def ensure_running(
    options: ReplicaOptions, scale: Scale, timeout_s: float, *, keeps_running: bool = False
) -> ReplicaFacts:
    """Have at least one replica answer: of those that run already, unless they are another version
    or were given other options (which `keeps_running` accepts), or else a new one. Its facts.

    Raises:
        ClusterError: the cluster has no room, or its machines another version.
    """
    from ray import serve

    began = time.monotonic()
    deadline = began + timeout_s
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # it tells of each call
    serve.start(proxy_location="Disabled")
    _wait_for_others(began + timeout_s / 2)
    if keeps_running and _num_running():
        return _accept_build(_ask_facts(deadline))
    if (facts := _running(options, began + timeout_s / 2)) is not None:
        return facts
    _delete(deadline)
    target = serve.RunTarget(build_application(options, scale), APPLICATION, None)
    serve.run_many([target], wait_for_applications_running=False)
    _wait_for_replica(scale, deadline)
    return _ask_facts(deadline)


def handle() -> Any:
    """The handle of the application's replicas."""
    from ray import serve

    return serve.get_app_handle(APPLICATION)


def _running(options: ReplicaOptions, deadline: float) -> ReplicaFacts | None:
    """The facts of a replica that runs already and is what is wanted."""
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    if not _num_running():
        return None
    try:
        facts = _ask_facts(deadline)
    except (RayError, RayServeException, TimeoutError, AttributeError) as e:
        log.warning("the replicas that run already do not answer: %s", type(e).__name__)
        return None
    if facts.build == options.build and facts.wish in ("", options.wish):
        return facts
    log.warning("the replicas that run already are not what is wanted; starting new ones")
    return None


def _accept_build(facts: ReplicaFacts) -> ReplicaFacts:
    if facts.build != build_id():
        raise ClusterError(skew_message(facts.build, build_id()))
    return facts


def _ask_facts(deadline: float) -> ReplicaFacts:
    """Of a replica; raises TimeoutError if none has answered by then."""
    left = max(1.0, deadline - time.monotonic())
    facts: ReplicaFacts = handle().facts.remote().result(timeout_s=left)
    return facts


def _status() -> Any:
    """The application's status; None while there is none."""
    from ray import serve

    return serve.status().applications.get(APPLICATION)


def _num_running() -> int:
    status = _status()
    deployment = status.deployments.get(DEPLOYMENT) if status else None
    return deployment.replica_states.get("RUNNING", 0) if deployment else 0


def _delete(deadline: float) -> None:
    """Remove the application that is there, if any."""
    from ray import serve

    if _status() is not None:
        serve.delete(APPLICATION, _blocking=False)
    while _status() is not None:
        if time.monotonic() >= deadline:
            raise ClusterError(
                phrase("The replicas of another version do not end: run `serve shutdown`.")
            )
        time.sleep(POLL_S)


def _wait_for_others(deadline: float) -> None:
    """Let replicas that an earlier gateway has asked for come up."""
    while (status := _status()) is not None and not _num_running():
        if _has_failed(status) or time.monotonic() >= deadline:
            return
        time.sleep(POLL_S)


def _has_failed(status: Any) -> bool:
    return "FAILED" in str(getattr(status, "status", "")) or SKEWED in _words(status)


def _wait_for_replica(scale: Scale, deadline: float) -> None:
    while not _num_running():
        status = _status()
        words = _words(status)
        if _has_failed(status):
            raise ClusterError(_start_failed(words))
        if time.monotonic() >= deadline:
            raise ClusterError(_not_in_time(scale, words))
        time.sleep(POLL_S)


def _words(status: Any) -> str:
    """What Serve says about the application and its deployment."""
    if status is None:
        return ""
    return "\n".join([status.message, *(one.message for one in status.deployments.values())])


def _start_failed(words: str) -> str:
    """By the replica's own sentence, if it gave one."""
    lines = [one.strip() for one in words.splitlines() if one.strip()]
    ours = next((one for one in lines if SKEWED in one), None)
    if ours is not None:
        return ours.partition("RuntimeError: ")[2] or ours
    if "ModuleNotFoundError" in words or "ImportError" in words:
        return phrase(
            "A machine of the cluster lacks gpt2-discord-bot, or has another version: install the "
            "bot's version on all machines."
        )
    last = lines[-1][:200] if lines else ""
    return phrase("The replicas on the cluster do not start: {why}", why=last)


def _not_in_time(scale: Scale, words: str) -> str:
    import ray

    free, all_cpus = (
        one.get("CPU", 0.0) for one in (ray.available_resources(), ray.cluster_resources())
    )
    if all_cpus < scale.cpus or (NO_ROOM in words and free < scale.cpus):
        return phrase(
            "The cluster has no room for a replica, which takes {cpus:g} processors and {gpus:g} "
            "graphics cards; {free:g} processors are free. Add a machine, or stop what runs there.",
            cpus=scale.cpus,
            gpus=scale.gpus,
            free=free,
        )
    return phrase(
        "No replica came up on the cluster in time. (Serve says: {words})",
        words=words.replace("\n", " ")[:200],
    )
