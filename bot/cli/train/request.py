"""The request for a training run in the terminal, and its job folder, laid out as for /retrain."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bot.settings import SettingsError
from core.errors import write_error
from core.records import Conversation
from i18n.phrase import join_phrases, phrase
from model.convert.adapter_folder import validate_model
from model.convert.validation import CONFIG_FILE as CONFIG_JSON
from model.registry import display_name, model_options
from model.runners.device import available_cores
from training.checkpoints import MANIFEST_FILE
from training.config import TrainingConfig
from training.jobs.folder import (
    CHECKPOINT_DIR,
    CONFIG_FILE,
    DATASET_FILE,
    HELD_OUT_FILE,
    latest_saved_step,
)
from training.jobs.process import launcher_command
from training.run.mixing import read_conversations

HELD_OUT_SHARE, MIN_FOR_HELD_OUT, MAX_HELD_OUT = 0.02, 50, 200
"""The share that is held out, from how many conversations on, and at most how many."""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """The settings, the name of the data, the folder for the checkpoint, and the command that
    launches several devices (() for one)."""

    config: TrainingConfig
    source: str
    out: Path
    launcher: tuple[str, ...] = ()

    @property
    def job_dir(self) -> Path:
        """The working folder, beside `out`."""
        return self.out.with_name(f"{self.out.name}.job")


@dataclass(frozen=True, slots=True)
class HeldOutSplit:
    """Conversations to train on, and those held out to measure the result."""

    learned: Sequence[Conversation]
    held_out: Sequence[Conversation]


def check_base(source: str) -> None:
    """Refuse a base that is neither a folder with a model nor on the Hub.

    Raises:
        SettingsError, LoadFailed: it cannot be the base.
    """
    if Path(source).is_dir():
        validate_model(Path(source), display_name(source))
        return
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    try:
        hf_hub_download(source, CONFIG_JSON)
    except (OSError, ValueError) as e:
        raise SettingsError(
            phrase(
                "There is no model “{base}” here, and the Hugging Face Hub does not have it or "
                "cannot be reached: --base takes {names}, a folder, or a Hub id such as "
                "distilbert/distilgpt2.",
                base=source,
                names=join_phrases(sorted(model_options), ", "),
            )
        ) from e


def hold_out(conversations: Sequence[Conversation], seed: int) -> HeldOutSplit:
    """Hold some conversations out, after a shuffle by the seed."""
    shuffled = list(conversations)
    random.Random(seed).shuffle(shuffled)
    share = max(1, min(MAX_HELD_OUT, round(len(shuffled) * HELD_OUT_SHARE)))
    learned = len(shuffled) - (share if len(shuffled) >= MIN_FOR_HELD_OUT else 0)
    return HeldOutSplit(shuffled[:learned], shuffled[learned:])


def prepare(request: TrainRequest, data: HeldOutSplit) -> None:
    """Write the job's folder.

    Raises:
        SettingsError: something that must not be lost is in its place.
        StoreError: it could not be written; nothing is left behind.
    """
    _clear(request.job_dir)
    try:
        request.job_dir.mkdir(parents=True)
        request.config.save(request.job_dir / CONFIG_FILE)
        _write(request.job_dir / DATASET_FILE, data.learned)
        if data.held_out:
            _write(request.job_dir / HELD_OUT_FILE, data.held_out)
    except OSError as e:
        shutil.rmtree(request.job_dir, ignore_errors=True)
        raise write_error(phrase("The folder {folder}", folder=request.job_dir), e) from e


def _clear(job: Path) -> None:
    """Delete the folder of a run that has saved nothing yet."""
    if not job.exists():
        return
    if not (job / CONFIG_FILE).is_file():
        raise SettingsError(
            phrase("{job} exists, and is not the folder of a run: choose another --out.", job=job)
        )
    if latest_saved_step(job) or has_checkpoint(job):
        raise SettingsError(
            phrase(
                "An earlier run is saved in {job}: --resume continues it. To start over, delete "
                "that folder.",
                job=job,
            )
        )
    shutil.rmtree(job, ignore_errors=True)


def has_checkpoint(job: Path) -> bool:
    """Whether the run has finished, and only the move of its checkpoint to `out` is missing."""
    return (job / CHECKPOINT_DIR / MANIFEST_FILE).is_file()


def _write(path: Path, conversations: Sequence[Conversation]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for turns in conversations:
            messages = [{"role": one.role.value, "content": one.content} for one in turns]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def load_interrupted(request: TrainRequest) -> tuple[TrainRequest, HeldOutSplit]:
    """The request with the settings that the interrupted job began with, and the job's data.

    Raises:
        SettingsError: there is no interrupted job, or its settings cannot be read.
        CorruptData: its data cannot be read.
    """
    job = request.job_dir
    if not (job / CONFIG_FILE).is_file():
        raise SettingsError(phrase("There is no run to resume: {job} does not exist.", job=job))
    try:
        config = TrainingConfig.load(job / CONFIG_FILE)
    except ValueError as e:
        raise SettingsError(
            phrase(
                "{file} cannot be read: delete {job} and start over.",
                file=job / CONFIG_FILE,
                job=job,
            )
        ) from e
    learned, held_out = (
        read_conversations(path) if path.is_file() else []
        for path in (job / DATASET_FILE, job / HELD_OUT_FILE)
    )
    return replace(request, config=config), HeldOutSplit(learned, held_out)


def launch_command(config: Path | None, processes: int | None) -> tuple[str, ...]:
    """`accelerate launch` with a file of `accelerate config` or for several processes; () for one.

    `--multi_gpu` also starts several processes on a CPU; with `--cpu` it would be a single one.
    """
    if config is not None:
        return launcher_command(config) + (("--num_processes", str(processes)) if processes else ())
    if processes is None or processes == 1:
        return ()
    options = {
        "num_processes": processes,
        "num_machines": 1,
        "main_process_port": 0,  # any free port
        "num_cpu_threads_per_process": max(1, available_cores() // processes),
        "mixed_precision": "no",  # the run's own settings decide
        "dynamo_backend": "no",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *words)
