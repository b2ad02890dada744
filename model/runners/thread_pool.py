"""The CPU threads that the models of a process share, in ONNX Runtime.

By default each session has threads of its own, which spin for a while after a run: two models in
turns would keep the cores from each other.
"""

from __future__ import annotations

import threading

import onnxruntime

_lock = threading.Lock()
_shared = False


def assign_threads(options: onnxruntime.SessionOptions, threads: int) -> None:
    """Let a session compute with `threads`, or with the shared ones.

    The first model that needs several threads makes the pool; from then on ONNX Runtime refuses
    sessions with their own. A small model that was loaded before keeps its only thread.
    """
    global _shared
    with _lock:
        if threads > 1 and not _shared and hasattr(onnxruntime, "set_global_thread_pool_sizes"):
            onnxruntime.set_global_thread_pool_sizes(threads, 1)
            _shared = True
        if _shared:
            options.use_per_session_threads = False
            return
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
