"""Models in one process compute with the same threads, and no worse for it."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from model.convert.build import build
from model.registry import EMBEDDED_FOLDER
from tests.builds import BUILT

ROOT = Path(__file__).parents[3]
MODELS = """
import json, sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
import onnxruntime, psutil
if sys.argv[2] == "an older ONNX Runtime":
    del onnxruntime.set_global_thread_pool_sizes
from model.convert.artifact import read_metadata
from model.runners.base import MIN_MULTITHREAD_PARAMETERS
from model.runners.onnx_runner import OnnxRunner

folder = Path(sys.argv[1])
meta = read_metadata(folder)
large = replace(meta, parameters=MIN_MULTITHREAD_PARAMETERS)
runners, threads = [], []
for one in (meta, large, large, meta):
    runners.append(OnnxRunner(folder, one, rows=2, threads=3))
    threads.append(psutil.Process().num_threads())

def reply(runner):
    said = [int(runner.prefill(0, [5, 6, 7], 0).argmax())]
    while True:
        yield said
        said.append(int(runner.decode([said[-1]], [len(said) + 2])[0].argmax()))

replies = [reply(one) for one in runners]
for _ in range(12):  # in turns
    said = [next(one) for one in replies]
print(json.dumps({"threads": threads, "said": said}))
"""


def run_models(version: str) -> dict[str, Any]:
    folder = build(str(EMBEDDED_FOLDER), BUILT, "int8")
    done = subprocess.run(
        [sys.executable, "-c", MODELS, str(folder), version],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("version", "more"), [("this ONNX Runtime", [2, 0, 0]), ("an older ONNX Runtime", [2, 2, 0])]
)
def test_models_in_turns_share_threads_where_that_is_possible(
    version: str, more: list[int]
) -> None:
    """A small one with a thread of its own, two large ones, and another small one."""
    result = run_models(version)
    threads = result["threads"]
    assert [b - a for a, b in pairwise(threads)] == more
    assert len({tuple(said) for said in result["said"]}) == 1
    assert len(result["said"][0]) == 12
