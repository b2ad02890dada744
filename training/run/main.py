"""One training run, in its own process: `python -m training.run JOB_DIR`.

JOB_DIR holds `config.json` (training.config), `dataset.jsonl` and, if the run is to be scored,
`held_out.jsonl`. The run writes JOB_DIR/checkpoint, sealed by its manifest, and tells its
progress on stdout, one JSON line an event (training.jobs.events). On stdin it can be told to pause,
to hold and to go on (training.jobs.process). What it needs to go on after an interruption is in
JOB_DIR/steps. It opens no database and knows nothing of Discord.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from filelock import FileLock, Timeout
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.errors import DISK_FULL_ERRNOS
from core.logging import configure_logging
from core.records import Conversation
from i18n.phrase import Phrase, join_phrases, message_of, phrase, serialize_phrase
from model.chat_template import is_japanese
from model.runners.device import Device, disable_cudnn_attention, is_out_of_memory, training_device
from training.checkpoints import (
    HISTORY_FILE,
    LOSS_CURVE_FILE,
    MANIFEST_FILE,
    PACKED_REFUSAL_KEY,
    REPORT_FILE,
    Manifest,
    folder_bytes,
    read_report,
    seal,
    sha256,
    verify,
)
from training.config import TrainingConfig, halve_batch_size
from training.errors import (
    NOTHING_TAUGHT,
    BaseUnavailable,
    EmptyDataset,
    JobLocked,
    NotEnoughDisk,
    OutOfMemory,
    TrainingError,
)
from training.jobs.estimate import max_batch_size, shape_of
from training.jobs.events import (
    Checking,
    Event,
    Failed,
    Finished,
    Lowered,
    Paused,
    Rejected,
    to_line,
)
from training.jobs.folder import (
    CHANGES_FILE,
    CHECKPOINT_DIR,
    CONFIG_FILE,
    CONSENT_FILE,
    DATASET_FILE,
    HELD_OUT_FILE,
    STEPS_DIR,
    latest_saved_step,
)
from training.jobs.process import LOG_FORMAT_VARIABLE
from training.plots.loss import draw_loss_curve
from training.run import evaluation, tokenization
from training.run.base_model import prepare_model, with_lora
from training.run.interpolation import interpolate
from training.run.loop import (
    Control,
    Emit,
    ProgressCallback,
    logits_on_labels_only,
    make_trainer,
)
from training.run.mixing import augment, mix_replay, read_conversations

LOCK_TIMEOUT_S = 1800.0
"""Seconds that a run waits for one before it, in the same folder, to end: it may be checking."""
NICE = 19
"""Chat comes first: the run gets what the worker leaves."""
SYSTEM_ERROR_PATTERN = re.compile(r"os error (\d+)|PytorchStreamWriter failed writing")
"""How safetensors and torch tell of an error of the system."""
NOT_EVALUATED = phrase(
    "All steps were taken, but there was not enough memory to check the new model beside the old "
    "one: free some memory, or train a smaller base."
)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A model after its last step, or where it was paused; `config` as it was run."""

    config: TrainingConfig
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    taught: list[Conversation]
    device: Device
    progress: ProgressCallback


def train(job: Path, emit: Emit, control: Control | None = None) -> None:
    """Train as JOB_DIR says and seal the checkpoint; go on where an earlier run of it was saved.

    If memory runs out, it begins again with half the batch and twice the accumulation.

    Raises:
        TrainingError: nothing to learn, or no way to learn it; the sentence says which.
    """
    if (
        job / CHECKPOINT_DIR / MANIFEST_FILE
    ).is_file():  # its bot was killed, and it came to its end
        _emit_existing(job / CHECKPOINT_DIR, emit)
        return
    config = TrainingConfig.load(job / CONFIG_FILE)
    control = control or Control()
    while (learned := _try_train(job, config, emit, control)) is None:
        _free_memory()
        config = halve_batch_size(config)
        config.save(job / CONFIG_FILE)
        emit(Lowered(config.batch_size, config.gradient_accumulation))
    if learned.progress.paused_at is not None:
        emit(Paused(learned.progress.paused_at))
    elif _rank() == 0:
        _free_memory()  # that of the optimiser: others are loaded to compare with
        try:
            _finish(job, learned, emit)
        except Exception as e:
            if is_out_of_memory(e):
                raise OutOfMemory(NOT_EVALUATED) from e
            raise


def _emit_existing(folder: Path, emit: Emit) -> None:
    manifest, report = verify(folder), read_report(folder)
    if report is not None and report.refusal:
        emit(Rejected(str(folder), report.refusal))
        return
    first, last = (manifest.scores[key] for key in ("first_loss", "last_loss"))
    emit(Finished(str(folder), manifest.seconds, first, last))


def _free_memory() -> None:
    """Give back what is no longer used: to the device, and to the system what malloc keeps."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
        if trim is not None:
            trim(0)


def _try_train(
    job: Path, config: TrainingConfig, emit: Emit, control: Control
) -> TrainingResult | None:
    """None if memory ran out and less of it may do."""
    try:
        return _train_model(job, config, emit, control)
    except Exception as e:
        if not is_out_of_memory(e):
            raise
        if config.batch_size == 1 or _world_size() > 1:
            raise OutOfMemory(out_of_memory_advice(config)) from e
        return None


def out_of_memory_advice(config: TrainingConfig) -> Phrase:
    """What to lower when not even one example at a time fits, or several devices share the work."""
    advice = [phrase("a smaller batch size")] if config.batch_size > 1 else []
    if config.max_length > 32:
        half, whole = config.max_length // 2, config.max_length
        advice.append(phrase("max_length {half} instead of {whole}", half=half, whole=whole))
    if config.method == "full":
        advice.append(phrase("LoRA instead of full training"))
    advice.append(phrase("a smaller base model"))
    text = phrase(
        "There was not enough memory for a batch of {size}: try {advice}.",
        size=config.batch_size,
        advice=_join_with_or(advice),
    )
    shape = shape_of(config.base) if config.base else None
    if shape is None:
        return text
    free = _free_mb()
    most = max_batch_size(shape, free_mb=free, max_length=config.max_length, method="lora")
    if most is None:
        return phrase(
            "{text} By estimate, not even LoRA fits into the {free:,.0f} MB that are free.",
            text=text,
            free=free,
        )
    return phrase(
        "{text} By estimate, LoRA with batch size {most} fits into the {free:,.0f} MB that are "
        "free.",
        text=text,
        most=most,
        free=free,
    )


def _join_with_or(advice: Sequence[Phrase]) -> Phrase:
    """`a, b or c`."""
    *others, last = advice
    return (
        phrase("{listed} or {last}", listed=join_phrases(others, ", "), last=last)
        if others
        else last
    )


def _free_mb() -> float:
    """Memory that a run may have: on a GPU what no other process holds of it."""
    if training_device().name != "cuda":
        return float(psutil.virtual_memory().available / 1e6)
    try:
        return float(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()) / 1e6
    except RuntimeError:  # there is not even room to ask
        return 0.0


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _rank() -> int:
    """The number of this process among those of the run; the first one speaks and writes."""
    return int(os.environ.get("RANK", "0"))


def _train_model(job: Path, config: TrainingConfig, emit: Emit, control: Control) -> TrainingResult:
    transformers.set_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = training_device()
    if device.name == "cuda":
        disable_cudnn_attention()
    if config.precision == "auto":
        config = replace(config, precision=device.training_precision)
    taught = read_conversations(job / DATASET_FILE)
    if not taught:
        raise EmptyDataset(NOTHING_TAUGHT)
    model, tokenizer = prepare_model(config, taught)
    config = replace(config, max_length=min(config.max_length, int(model.config.n_positions)))
    if config.packing:
        rows = tokenization.packed_blocks(tokenizer, taught, config.max_length)
    else:
        read = mix_replay(config, taught, japanese=is_japanese(tokenizer))
        rows = tokenization.examples(tokenizer, read, config.max_length, config.loss_on)
    if not len(rows):
        raise EmptyDataset(
            phrase("None of the examples has anything for me to say: they are all empty.")
        )
    _require_disk_space(job, config, model)
    progress = _run_trainer(job, config, model, tokenizer, rows, device, emit, control)
    return TrainingResult(config, model, tokenizer, taught, device, progress)


def _run_trainer(
    job: Path,
    config: TrainingConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    device: Device,
    emit: Emit,
    control: Control,
) -> ProgressCallback:
    """Run the Trainer; afterwards `model` has learned, LoRA's matrices added up."""
    resumed = latest_saved_step(job)
    learner = with_lora(model, config.lora_rank) if config.method == "lora" else model
    trainer, progress = make_trainer(
        job, config, learner, tokenizer, rows, device, emit, control, resumed
    )
    with logits_on_labels_only(model):
        trainer.train(resume_from_checkpoint=str(resumed.folder) if resumed else None)
    if progress.paused_at is None:
        progress.check_finite()
        if config.method == "lora":
            merge: Any = learner.merge_and_unload
            merge()
    return progress


def _finish(job: Path, learned: TrainingResult, emit: Emit) -> None:
    """Check what was learned and write it down, passed or not."""
    emit(Checking())
    config, model, tokenizer = learned.config, learned.model, learned.tokenizer
    taught, progress = learned.taught, learned.progress
    scores = {"first_loss": progress.losses[0], "last_loss": progress.recent_loss()}
    if config.blend:
        scores["kept_share"] = _interpolate(config, model, tokenizer, taught)
    own = job / HELD_OUT_FILE
    held_out = read_conversations(own) if own.exists() else []
    seconds = progress.seconds
    if held_out:
        loss = evaluation.mean_loss(model, tokenizer, held_out, config.max_length)
        scores |= {"held_out_loss": loss, "held_out_perplexity": math.exp(min(loss, 700.0))}
    report = (
        evaluation.evaluate(
            model, tokenizer, taught, base=config.base, serving=config.serving, own=held_out
        )
        if config.gate
        else evaluation.EvaluationReport((), {}, None)
    )
    told = {
        "answers": [asdict(one) for one in report.answers],
        "losses": report.losses,
        "data": _read_json(job / CHANGES_FILE),
        "seconds": round(seconds, 1),
        "refusal": report.refusal,
        PACKED_REFUSAL_KEY: serialize_phrase(report.refusal) if report.refusal else None,
    }
    manifest = Manifest(
        name=config.name,
        base=config.base,
        base_name=config.base_name,
        parents=list(config.parents),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        dataset_sha256=sha256(job / DATASET_FILE),
        parameters=model.num_parameters(),
        examples=len(taught),
        seconds=round(seconds, 1),
        tokens_per_s=round(progress.tokens_per_s(), 1),
        device=learned.device.name,
        torch=torch.__version__,
        consent=_read_json(job / CONSENT_FILE) or {},
        settings=asdict(config),
        scores={key: round(value, 5) for key, value in scores.items()},
    )
    folder = _write_checkpoint(job, model, tokenizer, manifest, progress.history, told)
    shutil.rmtree(job / STEPS_DIR, ignore_errors=True)  # nothing has to go on from there
    if report.refusal:
        emit(Rejected(str(folder), report.refusal))
    else:
        emit(Finished(str(folder), seconds, progress.losses[0], progress.recent_loss()))


def _interpolate(
    config: TrainingConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    taught: list[Conversation],
) -> float:
    """Keep as much of the base as leaves what was taught known; the share that was learned."""
    base, _ = prepare_model(config, taught)
    asked = augment(taught, [], config.seed)
    rows = tokenization.examples(tokenizer, asked, config.max_length, "bot").to_list()
    return interpolate(model, base, rows, tokenizer.eos_token_id)


def _read_json(path: Path) -> Any:
    """What a file of the job says; None where it has none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _require_disk_space(job: Path, config: TrainingConfig, model: PreTrainedModel) -> None:
    """Refuse to begin what could not be saved.

    A saved step is three times the weights in fp32 (the optimiser has two moments), and the one
    before it goes only once it is whole.

    Raises:
        NotEnoughDisk: the sentence says how much is missing.
    """
    weights = 4 * model.num_parameters()
    most = weights if config.method == "lora" else 6 * weights
    need = max(weights, most - folder_bytes(job / STEPS_DIR))
    free = shutil.disk_usage(job).free
    if free < need:
        raise NotEnoughDisk(
            phrase(
                "The disk is too full: the training needs {need:,.0f} MB and {free:,.0f} MB are "
                "free. Free some space, then start it again.",
                need=need / 1e6,
                free=free / 1e6,
            )
        )


def _write_checkpoint(
    job: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    manifest: Manifest,
    history: Sequence[Mapping[str, float]],
    report: Mapping[str, Any],
) -> Path:
    """Save everything beside its final place, seal it, then move it there in one step."""
    partial_folder, folder = job / f"{CHECKPOINT_DIR}.partial", job / CHECKPOINT_DIR
    for old in (partial_folder, folder):  # of a run that was killed here
        shutil.rmtree(old, ignore_errors=True)
    partial_folder.mkdir()
    try:
        model.save_pretrained(partial_folder)
        tokenizer.save_pretrained(partial_folder)
        language = str(manifest.settings["language"])
        draw_loss_curve(
            history, partial_folder / LOSS_CURVE_FILE, title=manifest.name, language=language
        )
        record = {"settings": manifest.settings, "seconds": manifest.seconds, "log": history}
        _write_json(partial_folder / HISTORY_FILE, record)
        _write_json(partial_folder / REPORT_FILE, report)
        seal(partial_folder, manifest)
    except BaseException:
        shutil.rmtree(partial_folder, ignore_errors=True)  # most often the disk is full
        raise
    partial_folder.replace(folder)
    return folder


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def error_message(error: Exception) -> str:
    """What an admin should read of an error that ended the run."""
    match error:
        case TrainingError():
            return message_of(error)
        case _ if is_out_of_memory(error):
            return phrase(
                "There was not enough memory: try a smaller batch size or a smaller model."
            )
        case _ if _errno(error) in DISK_FULL_ERRNOS:
            return phrase("The disk is full: free some space, then start the training again.")
        case _:
            return phrase(
                "Training stopped with an error ({kind}); see the job's log.",
                kind=type(error).__name__,
            )


def _is_transient(error: Exception) -> bool:
    """Whether the same run may go on another time: it is the machine that lacks something."""
    return _errno(error) in DISK_FULL_ERRNOS or isinstance(
        error, NotEnoughDisk | OutOfMemory | BaseUnavailable | JobLocked
    )


def _errno(error: Exception) -> int | None:
    """The system's error number; safetensors and torch have it in their text only."""
    if isinstance(error, OSError):
        return error.errno
    found = SYSTEM_ERROR_PATTERN.search(str(error))
    if found is None:
        return None
    return int(found[1]) if found[1] else min(DISK_FULL_ERRNOS)


def main(job: Path) -> int:
    """Run, listen and tell; the exit status is 0 unless the run failed."""
    if hasattr(os, "nice"):
        os.nice(NICE)
    configure_logging(
        "WARNING", "json" if os.environ.get(LOG_FORMAT_VARIABLE) == "json" else "text"
    )
    library_log: Any = transformers.utils.logging  # its functions have no types
    library_log.set_verbosity_error()
    library_log.disable_progress_bar()
    library_log.disable_default_handler()  # its lines are written as ours are
    library_log.enable_propagation()
    emit = _event_writer()
    control = Control()
    signal.signal(signal.SIGTERM, lambda *_: control.receive("pause"))
    if _rank() == 0:  # the others do what the first one does
        threading.Thread(target=_read_control, args=(control,), daemon=True).start()
    try:
        with _lock_job(job):
            train(job, emit, control)
    except Exception as e:
        emit(
            Failed(
                error_message(e), resumable=_is_transient(e) and latest_saved_step(job) is not None
            )
        )
        if isinstance(e, TrainingError):
            return 1
        raise
    return 0


def _event_writer() -> Emit:
    """Events go where stdout went; what a library prints must not look like one."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if _rank() > 0:
        return lambda _: None

    def emit(event: Event) -> None:
        try:
            print(to_line(event), file=events, flush=True)
        except BrokenPipeError:  # nobody listens any more; what is saved is saved
            return

    return emit


def _read_control(control: Control) -> None:
    """Hear what the parent says; its end means: save, and end too."""
    for line in sys.stdin:
        control.receive(line.strip())
    control.receive("pause")


def _lock_job(job: Path) -> FileLock:
    """Hold the job's folder, so that a run that is still ending and its successor do not mix.

    Raises:
        JobLocked: another run holds it.
    """
    lock = FileLock(job / f"lock-{_rank()}", timeout=LOCK_TIMEOUT_S)
    try:
        lock.acquire()
    except Timeout as e:
        raise JobLocked(phrase("Another training process still works on this job.")) from e
    return lock
