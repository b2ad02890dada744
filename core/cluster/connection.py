"""The connection to a Ray cluster, and what is said when there is none.

Knows the forms of an address, and turns Ray's errors into sentences. Does not know what runs there.
Ray is imported by `connect` only, so that a bot without a cluster needs no Ray.

**A process that is connected may be ended by Ray**: when the cluster's head is away for a minute,
its library ends the whole process. So the bot's own process never connects; its children do
(`model.cluster.gateway`, `training.cluster`), and the bot notices their end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import platform
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i18n.phrase import phrase

AUTO, LOCAL, CLIENT_PREFIX = "auto", "local", "ray://"
NAMESPACE = "gpt2bot"
ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Read by Ray as well, which takes another meaning from it; `connect` hides it."""
MODE_VARIABLE = "RAY_AUTH_MODE"
"""`token` or `disabled`: whether a token is sent, and wanted of others. Unless the cluster does the
same, its answers are refused here, and requests wait for ever."""
TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Where Ray looks for the token before it opens the user's file."""
NODE_SETTINGS = {
    "RAY_worker_niceness": "0",
    "RAY_raylet_liveness_self_check_interval_ms": "5000",
}
"""For a node. Ray gives its workers a low priority: replies deserve the usual one, so that they go
before a training on the same node, which lowers its own. And a node asks once a minute only whether
its head still knows it, so one that a new head does not know would be of no use for as long."""
CHECK_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""A question that every head answers."""
REACH_TIMEOUT_S = 5.0
"""Seconds for the head to accept a connection."""
ANSWER_TIMEOUT_S = 20.0
"""Seconds for it to answer a question: it may be busy, or only starting."""
NO_RAY = phrase(
    "Ray is not installed, and RAY_ADDRESS asks for it: "
    'pip install "gpt2-discord-bot[cluster]", or leave RAY_ADDRESS empty.'
)
REFUSED = phrase(
    "The Ray cluster refused the token: put the cluster's own token (`ray get-auth-token` on its "
    "head) into ~/.ray/auth_token here, or into RAY_AUTH_TOKEN."
)
NO_ANSWER = phrase("The Ray cluster does not answer: check that its head runs.")


class ClusterError(Exception):
    """The cluster cannot be used; the message is a sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that this process is connected to. `address` is that of its head, for other
    processes on this machine; `nodes` are alive, and have `cpus` and `gpus` in all."""

    address: str
    nodes: int
    cpus: float
    gpus: float


def is_installed() -> bool:
    """Whether the extra `cluster` is installed; imports nothing."""
    return importlib.util.find_spec("ray") is not None


def token_file() -> Path:
    """Where Ray looks for the token of this user's clusters."""
    return Path.home() / ".ray" / "auth_token"


def has_token() -> bool:
    """Whether there is a token for a cluster on this machine."""
    return any(map(os.environ.get, TOKEN_VARIABLES)) or token_file().is_file()


def connect(address: str, **options: Any) -> Cluster:
    """Connect this process to a cluster, or start one. Blocks for seconds.

    `local` starts one that ends with this process; `auto` joins that of the node on this machine,
    `HOST:PORT` that of a head, for which this machine has to be one of its nodes as well.
    `options` are further ones of `ray.init` (for `local`: `num_cpus`, `object_store_memory`).

    Raises:
        ClusterError: the sentence says why, and what to do.
    """
    if not is_installed():
        raise ClusterError(NO_RAY)
    if address.startswith(CLIENT_PREFIX):
        raise ClusterError(_no_client_message(address))
    head = _address_of_this_node() if address == AUTO else address
    if head is not None and head != LOCAL:
        _require_reachable(head)
    os.environ.pop(ADDRESS_VARIABLE, None)
    if address != LOCAL:  # Ray itself only decides that for clusters that it starts
        os.environ.setdefault(MODE_VARIABLE, "token" if _is_guarded(head) else "disabled")
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # under `uv run`, it would send our folder
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    try:
        ray.init(address, **_options(address), **options)
    except Exception as e:  # Ray raises what its many parts do, some only as RuntimeError
        disconnect()
        raise ClusterError(_sentence(address, e)) from e
    total = ray.cluster_resources()
    return Cluster(
        ray.get_runtime_context().gcs_address,
        sum(bool(one["Alive"]) for one in ray.nodes()),
        total.get("CPU", 0.0),
        total.get("GPU", 0.0),
    )


def disconnect() -> None:
    """Leave the cluster; a `local` one ends."""
    import ray

    ray.shutdown()


def _options(address: str) -> Mapping[str, Any]:
    shared = {
        "namespace": NAMESPACE,
        "log_to_driver": False,
        "logging_level": logging.WARNING,
        "configure_logging": False,
    }
    return shared | ({"include_dashboard": False} if address == LOCAL else {})


def _require_reachable(address: str) -> None:
    """Ray itself would wait for a minute, and then end the process."""
    host, _, port = address.rpartition(":")
    try:
        with contextlib.closing(
            socket.create_connection((host.strip("[]"), int(port)), REACH_TIMEOUT_S)
        ):
            return
    except (ValueError, OverflowError) as e:
        raise ClusterError(
            phrase(
                "RAY_ADDRESS is “{address}”, which is no address: use auto, local or HOST:PORT, "
                "such as 10.0.0.5:6379.",
                address=address,
            )
        ) from e
    except OSError as e:
        raise ClusterError(
            phrase(
                "The Ray cluster at {address} cannot be reached ({why}): check that its head runs "
                "and that this machine's network leads there.",
                address=address,
                why=e.strerror or e,
            )
        ) from e


def _is_guarded(head: str | None) -> bool:
    """Whether a head refuses those who send no token. If it cannot be asked, whether we have one.
    Raises ClusterError: it does not answer in time, as when the network was cut, or refuses ours,
    which Ray itself would try for long.

    Without Ray, which reads the mode when it is imported."""
    import grpc

    if head is None:
        return has_token()
    with grpc.insecure_channel(head) as channel:
        answer = _ask(channel)
        if answer is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise ClusterError(NO_ANSWER)
        if answer is grpc.StatusCode.UNAVAILABLE:
            return has_token()
        refusals = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        is_guarded = answer in refusals
        if is_guarded and (token := _token()) and _ask(channel, token) in refusals:
            raise ClusterError(REFUSED)
    return is_guarded


def _ask(channel: Any, token: str | None = None) -> Any:
    """What a head answers to the question whether it is there, as a status of gRPC."""
    import grpc

    header = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        channel.unary_unary(CHECK_ALIVE)(b"", timeout=ANSWER_TIMEOUT_S, metadata=header)
    except grpc.RpcError as e:
        return e.code()
    return grpc.StatusCode.OK


def _token() -> str | None:
    """Where Ray finds it, and in the same order; None if there is none that can be read."""
    given, path = map(os.environ.get, TOKEN_VARIABLES)
    try:
        found = given or (Path(path) if path else token_file()).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return found.strip() or None


def _address_of_this_node() -> str | None:
    """Where the node on this machine has noted its head."""
    home = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    try:
        return (home / "ray" / "ray_current_cluster").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _no_client_message(address: str) -> str:
    head = address.removeprefix(CLIENT_PREFIX).rpartition(":")[0] or "HEAD"
    return phrase(
        "Ray Client ({address}) cannot stream replies. Make this machine a node without "
        "processors instead: run `ray start --address={head}:6379 --num-cpus=0` here, and set "
        "RAY_ADDRESS=auto.",
        address=address,
        head=head,
    )


def _sentence(address: str, error: Exception) -> str:
    """What went wrong, by the kind of Ray's error, or else by its words."""
    import ray

    words = str(error)
    if any(isinstance(one, ray.exceptions.AuthenticationError) for one in _causes(error)):
        return REFUSED
    if "ersion mismatch" in words:
        return phrase(
            "The Ray cluster runs another version of Ray or Python than this machine, which has "
            "Ray {ray} and Python {python}: install the same versions on all machines.",
            ray=ray.__version__,
            python=platform.python_version(),
        )
    if isinstance(error, ConnectionError) or address != LOCAL:
        return phrase(
            "There is no Ray node on this machine: run `ray start --address=HEAD:6379 "
            "--num-cpus=0` here, with the address of the cluster's head, or set RAY_ADDRESS=local. "
            "(Ray says: {words})",
            words=words.partition("\n")[0][:200],
        )
    return phrase("Ray could not be started: {words}", words=(words or type(error).__name__)[:300])


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
