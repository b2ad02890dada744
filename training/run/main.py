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

from core.errors import NO_ROOM
from core.logging import set_up
from core.records import Conversation
from i18n.phrase import Phrase, packed, phrase, together, words
from model.chat_template import is_japanese
from model.runners.device import Device, is_out_of_memory, training_device, without_cudnn
from training.checkpoints import (
    HISTORY,
    LOSS_CURVE,
    MANIFEST,
    PACKED,
    REPORT,
    Manifest,
    read_report,
    seal,
    sha256,
    size,
    verify,
)
from training.config import TrainingConfig, lower
from training.errors import (
    NOTHING,
    BaseMissing,
    EmptyDataset,
    NoMemory,
    NoRoom,
    StillRunning,
    TrainingError,
)
from training.jobs.estimate import fitting, shape_of
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
    CHANGES,
    CHECKPOINT,
    CONFIG,
    CONSENT,
    DATASET,
    HELD_OUT,
    STEPS,
    saved_step,
)
from training.jobs.process import LOG_FORMAT
from training.plots.loss import draw
from training.run import evaluation, tokenization
from training.run.base_model import start, with_lora
from training.run.interpolation import blend
from training.run.loop import (
    Control,
    Emit,
    Progress,
    head_on_labels,
    make_trainer,
)
from training.run.mixing import as_taught, lessons, read_conversations

LOCK_S = 1800.0
"""Seconds that a run waits for one before it, in the same folder, to end: it may be checking."""
NICE = 19
"""Chat comes first: the run gets what the worker leaves."""
SYSTEM_ERROR = re.compile(r"os error (\d+)|PytorchStreamWriter failed writing")
"""How safetensors and torch tell of an error of the system."""
NOT_CHECKED = phrase(
    "All steps were taken, but there was not enough memory to check the new model beside the old "
    "one: free some memory, or train a smaller base."
)


@dataclass(frozen=True, slots=True)
class Learned:
    """A model after its last step, or where it was paused; `config` as it was run."""

    config: TrainingConfig
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    taught: list[Conversation]
    device: Device
    progress: Progress


def train(job: Path, emit: Emit, control: Control | None = None) -> None:
    """Train as JOB_DIR says and seal the checkpoint; go on where an earlier run of it was saved.

    If memory runs out, it begins again with half the batch and twice the accumulation.

    Raises:
        TrainingError: nothing to learn, or no way to learn it; the sentence says which.
    """
    if (job / CHECKPOINT / MANIFEST).is_file():  # its bot was killed, and it came to its end
        _tell_made(job / CHECKPOINT, emit)
        return
    config = TrainingConfig.load(job / CONFIG)
    control = control or Control()
    while (learned := _try(job, config, emit, control)) is None:
        _let_go_of_memory()
        config = lower(config)
        config.save(job / CONFIG)
        emit(Lowered(config.batch_size, config.gradient_accumulation))
    if learned.progress.paused_at is not None:
        emit(Paused(learned.progress.paused_at))
    elif _rank() == 0:
        _let_go_of_memory()  # that of the optimiser: others are loaded to compare with
        try:
            _finish(job, learned, emit)
        except Exception as e:
            if is_out_of_memory(e):
                raise NoMemory(NOT_CHECKED) from e
            raise


def _tell_made(folder: Path, emit: Emit) -> None:
    manifest, report = verify(folder), read_report(folder)
    if report is not None and report.refusal:
        emit(Rejected(str(folder), report.refusal))
        return
    first, last = (manifest.scores[key] for key in ("first_loss", "last_loss"))
    emit(Finished(str(folder), manifest.seconds, first, last))


def _let_go_of_memory() -> None:
    """Give back what is no longer used: to the device, and to the system what malloc keeps."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
        if trim is not None:
            trim(0)


def _try(job: Path, config: TrainingConfig, emit: Emit, control: Control) -> Learned | None:
    """None if memory ran out and less of it may do."""
    try:
        return _learn(job, config, emit, control)
    except Exception as e:
        if not is_out_of_memory(e):
            raise
        if config.batch_size == 1 or _processes() > 1:
            raise NoMemory(too_little(config)) from e
        return None


def too_little(config: TrainingConfig) -> Phrase:
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
        advice=_either(advice),
    )
    shape = shape_of(config.base) if config.base else None
    if shape is None:
        return text
    free = _free_mb()
    most = fitting(shape, free_mb=free, max_length=config.max_length, method="lora")
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


def _either(advice: Sequence[Phrase]) -> Phrase:
    """`a, b or c`."""
    *others, last = advice
    return (
        phrase("{listed} or {last}", listed=together(others, ", "), last=last) if others else last
    )


def _free_mb() -> float:
    """Memory that a run may have: on a GPU what no other process holds of it."""
    if training_device().name != "cuda":
        return float(psutil.virtual_memory().available / 1e6)
    try:
        return float(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()) / 1e6
    except RuntimeError:  # there is not even room to ask
        return 0.0


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _rank() -> int:
    """The number of this process among those of the run; the first one speaks and writes."""
    return int(os.environ.get("RANK", "0"))


def _learn(job: Path, config: TrainingConfig, emit: Emit, control: Control) -> Learned:
    transformers.set_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = training_device()
    if device.name == "cuda":
        without_cudnn()
    if config.precision == "auto":
        config = replace(config, precision=device.training)
    taught = read_conversations(job / DATASET)
    if not taught:
        raise EmptyDataset(NOTHING)
    model, tokenizer = start(config, taught)
    config = replace(config, max_length=min(config.max_length, int(model.config.n_positions)))
    if config.packing:
        rows = tokenization.blocks(tokenizer, taught, config.max_length)
    else:
        read = lessons(config, taught, japanese=is_japanese(tokenizer))
        rows = tokenization.examples(tokenizer, read, config.max_length, config.loss_on)
    if not len(rows):
        raise EmptyDataset(
            phrase("None of the examples has anything for me to say: they are all empty.")
        )
    _need_room(job, config, model)
    progress = _loop(job, config, model, tokenizer, rows, device, emit, control)
    return Learned(config, model, tokenizer, taught, device, progress)


def _loop(
    job: Path,
    config: TrainingConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    device: Device,
    emit: Emit,
    control: Control,
) -> Progress:
    """Run the Trainer; afterwards `model` has learned, LoRA's matrices added up."""
    resumed = saved_step(job)
    learner = with_lora(model, config.lora_rank) if config.method == "lora" else model
    trainer, progress = make_trainer(
        job, config, learner, tokenizer, rows, device, emit, control, resumed
    )
    with head_on_labels(model):
        trainer.train(resume_from_checkpoint=str(resumed.folder) if resumed else None)
    if progress.paused_at is None:
        progress.check()
        if config.method == "lora":
            merge: Any = learner.merge_and_unload
            merge()
    return progress


def _finish(job: Path, learned: Learned, emit: Emit) -> None:
    """Check what was learned and write it down, passed or not."""
    emit(Checking())
    config, model, tokenizer = learned.config, learned.model, learned.tokenizer
    taught, progress = learned.taught, learned.progress
    scores = {"first_loss": progress.losses[0], "last_loss": progress.recent()}
    if config.blend:
        scores["kept_share"] = _blend(config, model, tokenizer, taught)
    own = job / HELD_OUT
    held_out = read_conversations(own) if own.exists() else []
    seconds = progress.seconds
    if held_out:
        loss = evaluation.measure(model, tokenizer, held_out, config.max_length)
        scores |= {"held_out_loss": loss, "held_out_perplexity": math.exp(min(loss, 700.0))}
    report = (
        evaluation.check(
            model, tokenizer, taught, base=config.base, serving=config.serving, own=held_out
        )
        if config.gate
        else evaluation.Report((), {}, None)
    )
    told = {
        "answers": [asdict(one) for one in report.answers],
        "losses": report.losses,
        "data": _read_json(job / CHANGES),
        "seconds": round(seconds, 1),
        "refusal": report.refusal,
        PACKED: packed(report.refusal) if report.refusal else None,
    }
    manifest = Manifest(
        name=config.name,
        base=config.base,
        base_name=config.base_name,
        parents=list(config.parents),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        dataset_sha256=sha256(job / DATASET),
        parameters=model.num_parameters(),
        examples=len(taught),
        seconds=round(seconds, 1),
        tokens_per_s=round(progress.tokens_per_s(), 1),
        device=learned.device.name,
        torch=torch.__version__,
        consent=_read_json(job / CONSENT) or {},
        settings=asdict(config),
        scores={key: round(value, 5) for key, value in scores.items()},
    )
    folder = _write(job, model, tokenizer, manifest, progress.history, told)
    shutil.rmtree(job / STEPS, ignore_errors=True)  # nothing has to go on from there
    if report.refusal:
        emit(Rejected(str(folder), report.refusal))
    else:
        emit(Finished(str(folder), seconds, progress.losses[0], progress.recent()))


def _blend(
    config: TrainingConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    taught: list[Conversation],
) -> float:
    """Keep as much of the base as leaves what was taught known; the share that was learned."""
    base, _ = start(config, taught)
    asked = as_taught(taught, [], config.seed)
    rows = tokenization.examples(tokenizer, asked, config.max_length, "bot").to_list()
    return blend(model, base, rows, tokenizer.eos_token_id)


def _read_json(path: Path) -> Any:
    """What a file of the job says; None where it has none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _need_room(job: Path, config: TrainingConfig, model: PreTrainedModel) -> None:
    """Refuse to begin what could not be saved.

    A saved step is three times the weights in fp32 (the optimiser has two moments), and the one
    before it goes only once it is whole.

    Raises:
        NoRoom: the sentence says how much is missing.
    """
    weights = 4 * model.num_parameters()
    most = weights if config.method == "lora" else 6 * weights
    need = max(weights, most - size(job / STEPS))
    free = shutil.disk_usage(job).free
    if free < need:
        raise NoRoom(
            phrase(
                "The disk is too full: the training needs {need:,.0f} MB and {free:,.0f} MB are "
                "free. Free some space, then start it again.",
                need=need / 1e6,
                free=free / 1e6,
            )
        )


def _write(
    job: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    manifest: Manifest,
    history: Sequence[Mapping[str, float]],
    report: Mapping[str, Any],
) -> Path:
    """Save everything beside its final place, seal it, then move it there in one step."""
    partial_folder, folder = job / f"{CHECKPOINT}.partial", job / CHECKPOINT
    for old in (partial_folder, folder):  # of a run that was killed here
        shutil.rmtree(old, ignore_errors=True)
    partial_folder.mkdir()
    try:
        model.save_pretrained(partial_folder)
        tokenizer.save_pretrained(partial_folder)
        language = str(manifest.settings["language"])
        draw(history, partial_folder / LOSS_CURVE, title=manifest.name, language=language)
        record = {"settings": manifest.settings, "seconds": manifest.seconds, "log": history}
        _write_json(partial_folder / HISTORY, record)
        _write_json(partial_folder / REPORT, report)
        seal(partial_folder, manifest)
    except BaseException:
        shutil.rmtree(partial_folder, ignore_errors=True)  # most often the disk is full
        raise
    partial_folder.replace(folder)
    return folder


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def sentence(error: Exception) -> str:
    """What an admin should read of an error that ended the run."""
    match error:
        case TrainingError():
            return words(error)
        case _ if is_out_of_memory(error):
            return phrase(
                "There was not enough memory: try a smaller batch size or a smaller model."
            )
        case _ if _errno(error) in NO_ROOM:
            return phrase("The disk is full: free some space, then start the training again.")
        case _:
            return phrase(
                "Training stopped with an error ({kind}); see the job's log.",
                kind=type(error).__name__,
            )


def _may_pass(error: Exception) -> bool:
    """Whether the same run may go on another time: it is the machine that lacks something."""
    return _errno(error) in NO_ROOM or isinstance(
        error, NoRoom | NoMemory | BaseMissing | StillRunning
    )


def _errno(error: Exception) -> int | None:
    """The system's error number; safetensors and torch have it in their text only."""
    if isinstance(error, OSError):
        return error.errno
    found = SYSTEM_ERROR.search(str(error))
    if found is None:
        return None
    return int(found[1]) if found[1] else min(NO_ROOM)


def main(job: Path) -> int:
    """Run, listen and tell; the exit status is 0 unless the run failed."""
    if hasattr(os, "nice"):
        os.nice(NICE)
    set_up("WARNING", "json" if os.environ.get(LOG_FORMAT) == "json" else "text")
    library_log: Any = transformers.utils.logging  # its functions have no types
    library_log.set_verbosity_error()
    library_log.disable_progress_bar()
    library_log.disable_default_handler()  # its lines are written as ours are
    library_log.enable_propagation()
    emit = _speaker()
    control = Control()
    signal.signal(signal.SIGTERM, lambda *_: control.hear("pause"))
    if _rank() == 0:  # the others do what the first one does
        threading.Thread(target=_listen, args=(control,), daemon=True).start()
    try:
        with _alone(job):
            train(job, emit, control)
    except Exception as e:
        emit(Failed(sentence(e), resumable=_may_pass(e) and saved_step(job) is not None))
        if isinstance(e, TrainingError):
            return 1
        raise
    return 0


def _speaker() -> Emit:
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


def _listen(control: Control) -> None:
    """Hear what the parent says; its end means: save, and end too."""
    for line in sys.stdin:
        control.hear(line.strip())
    control.hear("pause")


def _alone(job: Path) -> FileLock:
    """Hold the job's folder, so that a run that is still ending and its successor do not mix.

    Raises:
        StillRunning: another run holds it.
    """
    lock = FileLock(job / f"lock-{_rank()}", timeout=LOCK_S)
    try:
        lock.acquire()
    except Timeout as e:
        raise StillRunning(phrase("Another training process still works on this job.")) from e
    return lock
