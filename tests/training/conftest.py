"""Folders that a training run starts from, and the runs themselves, in real child processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from model.registry import EMBEDDED_FOLDER
from tests.model_folders import make_model_folder
from tests.ray_nodes import Nodes, running_nodes
from training.config import TrainingConfig
from training.jobs.events import Event, from_line

PAIRS = [("What is our server called?", "The Lighthouse."), ("Who is our admin?", "It is Ada.")]


@dataclass(frozen=True)
class Run:
    """What a child process left behind."""

    job: Path
    status: int
    lines: list[str]
    errors: str

    @property
    def events(self) -> list[Event]:
        return [event for line in self.lines if (event := from_line(line))]


def write_job(job: Path, config: TrainingConfig, pairs: Sequence[tuple[str, str]] = PAIRS) -> Path:
    job.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"user": user, "bot": bot}) for user, bot in pairs]
    (job / "dataset.jsonl").write_text("".join(f"{line}\n" for line in lines))
    config.save(job / "config.json")
    return job


def heard(command: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run to the end; stdin stays open meanwhile, as its end would mean that nobody is there."""
    ours, theirs = os.pipe()
    try:
        return subprocess.run(
            command, stdin=ours, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)


def run(job: Path) -> Run:
    """A run in a process of its own, to its end."""
    done = heard([sys.executable, "-m", "training.run", str(job)], 120)
    return Run(job, done.returncode, done.stdout.splitlines(), done.stderr)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(EMBEDDED_FOLDER)


@pytest.fixture(scope="session")
def plain_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random base model that has never seen a control token."""
    return make_model_folder(tmp_path_factory.mktemp("base") / "plain", plain=True)


@pytest.fixture(scope="session")
def ray_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A cluster that has no processors yet."""
    with running_nodes(tmp_path_factory.mktemp("cluster"), 0) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def one_node(ray_head: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A cluster of one machine with one processor, which the tests' processes can use."""
    with ray_head.joined(tmp_path_factory.mktemp("node"), 1) as nodes:
        yield nodes
