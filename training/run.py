"""One training run, in its own process: `python -m training.run JOB_DIR`.

JOB_DIR holds `config.json` (training.config), `dataset.jsonl` and, if the run is to be scored,
`held_out.jsonl`. The run writes JOB_DIR/checkpoint, sealed by its manifest, and tells its
progress on stdout, one JSON line an event (training.progress). It opens no database and knows
nothing of Discord. The Trainer is Hugging Face's.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from data.errors import NO_ROOM
from data.schema import Conversation
from model.build import UNREADABLE, why
from model.chat import BOT_TOKEN, CONTROL_TEMPLATE, USER_TOKEN, add_control_tokens, ensure_template
from model.device import Device, is_out_of_memory, training_device
from training import dataset, gate
from training.checkpoints import HISTORY, LOSS_CURVE, Manifest, seal, sha256
from training.config import Architecture, TrainingConfig
from training.curve import draw
from training.errors import (
    BaseMissing,
    CheckpointRejected,
    EmptyDataset,
    NotFinite,
    TrainingError,
)
from training.progress import Event, Failed, Finished, Rejected, Started, Step, to_line

Emit = Callable[[Event], None]
END_OF_TEXT = "<|endoftext|>"


def train(job: Path, emit: Emit) -> None:
    """Train as JOB_DIR says and seal the checkpoint.

    Raises:
        TrainingError: nothing to learn, data or loss unusable, or the checks not passed.
    """
    config = TrainingConfig.load(job / "config.json")
    transformers.set_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = training_device()
    if config.precision == "auto":
        config = replace(config, precision=device.training)

    taught = dataset.read_conversations(job / "dataset.jsonl")
    if not taught:
        raise EmptyDataset("There is nothing to learn from yet: teach me something first.")
    model, tokenizer = _start(config, taught)
    rows = _rows(config, tokenizer, taught)
    if not len(rows):
        raise EmptyDataset("None of the examples has anything for me to say: they are all empty.")

    trainer, progress = _trainer(job, config, model, tokenizer, rows, device, emit)
    began = time.monotonic()
    trainer.train()
    progress.check()
    seconds = time.monotonic() - began

    scores = {"first_loss": progress.losses[0], "last_loss": progress.recent()}
    scores |= _held_out_scores(job / "held_out.jsonl", config, trainer, tokenizer)
    folder = _write(job, config, model, tokenizer, progress.history, scores, seconds)
    try:
        gate.check(model, tokenizer, taught)
    except CheckpointRejected as e:
        emit(Rejected(str(folder), str(e)))
        return
    emit(Finished(str(folder), seconds, progress.losses[0], progress.recent()))


def _start(
    config: TrainingConfig, taught: Sequence[Conversation]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if config.architecture:
        return _from_scratch(config.architecture, taught)
    assert config.base is not None  # it is, where there is no architecture
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.base)
        model = AutoModelForCausalLM.from_pretrained(
            config.base, use_safetensors=True, dtype=torch.float32
        )
    except UNREADABLE as e:
        raise BaseMissing(why(config.base, e)) from e
    ensure_template(tokenizer)
    if tokenizer.chat_template != CONTROL_TEMPLATE:
        _teach_control_tokens(model, tokenizer)
    return model, tokenizer


def _teach_control_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add the speakers' control tokens; each begins as the word that it stands for."""
    words = [tokenizer.encode(word, add_special_tokens=False)[0] for word in ("User", "Bot")]
    add_control_tokens(tokenizer)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table: Any = model.get_input_embeddings().weight
    with torch.no_grad():
        for token, word in zip((USER_TOKEN, BOT_TOKEN), words, strict=True):
            table[tokenizer.convert_tokens_to_ids(token)] = table[word]


def _from_scratch(
    architecture: Architecture, taught: Sequence[Conversation]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        (message.content for turns in taught for message in turns),
        vocab_size=architecture.vocab_size,
        special_tokens=[END_OF_TEXT, USER_TOKEN, BOT_TOKEN],
        show_progress=False,
    )
    tokenizer = GPT2Tokenizer(
        tokenizer_object=bpe._tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=architecture.n_positions,
    )
    add_control_tokens(tokenizer)
    model = GPT2LMHeadModel(
        GPT2Config(
            **asdict(architecture) | {"vocab_size": len(tokenizer)},
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )
    return model, tokenizer


def _rows(
    config: TrainingConfig, tokenizer: PreTrainedTokenizerBase, taught: list[Conversation]
) -> Dataset:
    if config.packing:
        return dataset.blocks(tokenizer, taught, config.max_length)
    if config.replay:
        starter = dataset.without(taught, dataset.read_conversations(dataset.STARTER))
        taught = dataset.as_taught(taught, starter, config.seed) + starter[: config.replay]
    return dataset.examples(tokenizer, taught, config.max_length, config.loss_on)


def _trainer(
    job: Path,
    config: TrainingConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    device: Device,
    emit: Emit,
) -> tuple[Trainer, Progress]:
    batch = config.batch_size * config.gradient_accumulation
    per_epoch = math.ceil(len(rows) / batch)
    steps = max(math.ceil(per_epoch * config.epochs), config.min_steps)
    emit(
        Started(
            device=device.name,
            precision=config.precision,
            parameters=model.num_parameters(),
            examples=len(rows),
            steps=steps,
            epochs=steps / per_epoch,
            batch_size=config.batch_size,
            gradient_accumulation=config.gradient_accumulation,
            learning_rate=config.learning_rate,
        )
    )
    progress = Progress(emit, steps, sum(rows["length"]) / per_epoch)
    arguments = TrainingArguments(
        output_dir=str(job),
        max_steps=steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(steps * config.warmup_ratio),
        weight_decay=config.weight_decay,
        adam_beta2=0.95 if config.architecture else 0.999,
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        use_cpu=device.name == "cpu",
        train_sampling_strategy="random" if config.packing else "group_by_length",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=device.name == "cuda",
        seed=config.seed,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=partial(dataset.collate, pad_id=tokenizer.eos_token_id),
        callbacks=[progress],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer, progress


class Progress(TrainerCallback):
    """Keeps the loss of every step and tells the parent, at most twice a second."""

    def __init__(self, emit: Emit, steps: int, tokens_per_step: float) -> None:
        self._emit = emit
        self._steps = steps
        self._tokens_per_step = tokens_per_step
        self._began = time.monotonic()
        self._told = 0.0
        self.history: list[dict[str, float]] = []

    @property
    def losses(self) -> list[float]:
        return [entry["loss"] for entry in self.history]

    def recent(self) -> float:
        """The mean loss of the last tenth of the steps (one step is noisy), in nats a token."""
        tail = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(tail) / len(tail)

    def check(self) -> None:
        """Raise NotFinite if the last loss is not a number."""
        if not self.losses or not math.isfinite(self.losses[-1]):
            raise NotFinite(
                "The loss became NaN: training went astray. A lower learning rate would help."
            )

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        step, now = state.global_step, time.monotonic()
        loss, epoch = float(logs["loss"]), float(state.epoch or 0.0)
        self.history.append({"step": step, "epoch": round(epoch, 4), "loss": round(loss, 5)})
        if not math.isfinite(loss):
            control.should_training_stop = True
        if now - self._told >= 0.5 or step == self._steps:
            self._told = now
            per_step = (now - self._began) / step
            self._emit(
                Step(
                    step=step,
                    steps=self._steps,
                    epoch=epoch,
                    loss=loss,
                    tokens_per_s=self._tokens_per_step / per_step,
                    seconds_left=per_step * (self._steps - step),
                )
            )


def _held_out_scores(
    path: Path, config: TrainingConfig, trainer: Trainer, tokenizer: PreTrainedTokenizerBase
) -> dict[str, float]:
    if not path.exists():
        return {}
    conversations = dataset.read_conversations(path)
    rows = dataset.examples(tokenizer, conversations, config.max_length, "bot")
    loss = trainer.evaluate(rows)["eval_loss"]
    return {"held_out_loss": loss, "held_out_perplexity": math.exp(loss)}


def _write(
    job: Path,
    config: TrainingConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    history: list[dict[str, float]],
    scores: dict[str, float],
    seconds: float,
) -> Path:
    """Save everything beside its final place, seal it, then move it there in one step."""
    partial_folder, folder = job / "checkpoint.partial", job / "checkpoint"
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir()
    try:
        model.save_pretrained(partial_folder)
        tokenizer.save_pretrained(partial_folder)
        draw(history, partial_folder / LOSS_CURVE, title=config.name)
        settings = asdict(config)
        _write_history(partial_folder / HISTORY, settings, history, seconds)
        seal(
            partial_folder,
            Manifest(
                name=config.name,
                base=config.base,
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                dataset_sha256=sha256(job / "dataset.jsonl"),
                parameters=model.num_parameters(),
                settings=settings,
                scores={key: round(value, 5) for key, value in scores.items()},
            ),
        )
    except BaseException:
        shutil.rmtree(partial_folder, ignore_errors=True)  # most often the disk is full
        raise
    partial_folder.replace(folder)
    return folder


def _write_history(
    path: Path, settings: Mapping[str, Any], history: list[dict[str, float]], seconds: float
) -> None:
    """The run as JSON: its settings, how long it took, the loss at each step."""
    record = {"settings": settings, "seconds": round(seconds, 1), "log": history}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def sentence(error: Exception) -> str:
    """What an admin should read of an error that ended the run."""
    match error:
        case TrainingError():
            return str(error)
        case _ if is_out_of_memory(error):
            return "There was not enough memory: try a smaller batch size or a smaller model."
        case _ if _errno(error) in NO_ROOM:
            return "The disk is full: free some space, then start the training again."
        case _:
            return f"Training stopped with an error ({type(error).__name__}); see the job's log."


def _errno(error: Exception) -> int | None:
    """The system's error number; safetensors has it in its text only."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


def main(job: Path) -> int:
    """Run and tell; the exit status is 0 when there is a checkpoint, good or rejected."""
    if hasattr(os, "nice"):
        os.nice(10)  # chat comes first
    library_log: Any = transformers.utils.logging  # its functions have no types
    library_log.set_verbosity_error()
    library_log.disable_progress_bar()
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # a library's prints must not look like events

    def emit(event: Event) -> None:
        print(to_line(event), file=events, flush=True)

    try:
        train(job, emit)
    except Exception as e:
        emit(Failed(sentence(e)))
        if isinstance(e, TrainingError):
            return 1
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
