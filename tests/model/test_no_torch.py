"""The worker on a CPU needs neither torch nor what builds a graph: it is small and starts soon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.builds import BUILT

ROOT = Path(__file__).parents[2]
HEAVY = {"accelerate", "datasets", "huggingface_hub.hf_api", "onnx", "torch", "transformers"}

WORKER = """
import sys
from multiprocessing import Pipe, get_context
from pathlib import Path
from threading import Thread
from core.records import Message, Role
from model.worker.messages import Finished, Generate, Ready, Shutdown
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.main import main
from model.worker.running_models import RunningModels

def talk(pipe):
    assert isinstance(pipe.recv()[0], Ready)
    pipe.send(Generate(1, str(EMBEDDED_FOLDER), (Message(Role.USER, "hello"),), SamplingParams()))
    while not isinstance(event := pipe.recv()[-1], Finished):
        pass
    print(event.text, file=sys.stderr)
    pipe.send(Shutdown(0))

ours, theirs = Pipe()
Thread(target=talk, args=(ours,)).start()
settings = WorkerSettings(threads=1, build_cache=Path(sys.argv[1]))
running = RunningModels(get_context("spawn"), settings.max_sequences)
main(theirs, running, settings, str(EMBEDDED_FOLDER))
print(*sys.modules)
"""


def test_a_worker_that_has_answered_has_imported_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(BUILT)],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip()
    modules = set(done.stdout.split())
    assert "onnxruntime" in modules
    assert HEAVY.isdisjoint(modules)
