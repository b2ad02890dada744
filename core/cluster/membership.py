"""Whether the cluster still knows this process: a head that has restarted remembers nobody, and
what it was asked before is never answered. Ray itself does not say so."""

from __future__ import annotations

import logging
import threading
import time
from typing import Self

log = logging.getLogger(__name__)

LOOK_S = 3.0


class Membership:
    """Looks again and again inside `with`, in a thread of its own: the question itself may take
    long. For a process that is connected."""

    def __init__(self) -> None:
        self._known_at = time.monotonic()
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    @property
    def unknown_s(self) -> float:
        """Seconds since the head last knew the node that this process has joined."""
        return time.monotonic() - self._known_at

    def _look(self) -> None:
        import ray
        from ray._private.worker import global_worker

        mine = ray.NodeID.from_hex(ray.get_runtime_context().get_node_id())
        while not self._is_over.wait(LOOK_S):
            try:  # `ray.nodes`, asked of another head, would end this process
                if global_worker.gcs_client.check_alive([mine], timeout=LOOK_S) == [True]:
                    self._known_at = time.monotonic()
            except Exception as e:  # Ray raises what its many parts do
                log.info("the cluster does not say who belongs to it: %s", e)
