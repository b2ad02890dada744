"""The training loop: Hugging Face's Trainer, its events, and the requests it obeys between steps.

Knows the Trainer, rows of tokens and saved steps. Does not know what comes before or after the
loop.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import transformers
from datasets import Dataset
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.modeling_outputs import CausalLMOutput
from transformers.trainer import TRAINER_STATE_NAME

from i18n.phrase import phrase
from model.runners.device import Device
from training.config import TrainingConfig, steps_per_epoch, total_steps
from training.errors import LossNotFinite
from training.jobs.events import Event, Saved, Started, Step
from training.jobs.folder import COMPLETE_MARKER, STEPS_DIR, SavedStep
from training.run import distillation, tokenization
from training.run.curriculum import rows_per_epoch
from training.run.distillation import FactRows
from training.run.optimizer import MuonWithAdamW

Emit = Callable[[Event], None]
STEP_EVENT_INTERVAL_S = 0.5
"""Seconds between two Step events: small models take many steps a second."""


def world_size() -> int:
    """How many processes share this run: one for each device."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among them; only the first one's events count, and its files."""
    return int(os.environ.get("RANK", "0"))


class Control:
    """What was requested of the run, by another thread; it is read between two steps."""

    def __init__(self) -> None:
        self.pause_requested = threading.Event()
        self._not_held = threading.Event()
        self._not_held.set()

    def receive(self, word: str) -> None:
        """`pause`: save and end. `hold`: wait between two steps. `go`: no longer."""
        match word:
            case "pause":
                self.pause_requested.set()
                self._not_held.set()
            case "hold" if not self.pause_requested.is_set():
                self._not_held.clear()
            case "go":
                self._not_held.set()

    def wait_while_held(self) -> float:
        """Wait while the run is held; the seconds spent waiting."""
        began = time.monotonic()
        self._not_held.wait()
        return time.monotonic() - began


@contextmanager
def logits_on_labels_only(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model computes logits at labelled positions only.

    The vocabulary is the widest matrix of a small GPT-2, and most positions (the user's words,
    padding) have no label: this saves the time and memory of their logits. The loss is the same."""
    object.__setattr__(model, "forward", MethodType(_forward, model))
    try:
        yield
    finally:
        object.__delattr__(model, "forward")


def _forward(
    self: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
    **_: Any,
) -> CausalLMOutput:
    """The mean loss (nats a token) of int64 `labels` (rows, tokens), shifted as in transformers;
    with `num_items_in_batch` the sum over that."""
    assert labels is not None
    hidden = self.transformer(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=position_ids,
        use_cache=False,
    ).last_hidden_state
    targets = labels[:, 1:]
    labelled = targets != tokenization.IGNORE_INDEX
    logits = self.lm_head(hidden[:, :-1][labelled]).float()  # (labels, vocabulary)
    loss = nn.functional.cross_entropy(logits, targets[labelled], reduction="sum")
    count = labelled.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return CausalLMOutput(loss=loss / count)


def make_trainer(
    job: Path,
    config: TrainingConfig,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset | FactRows,
    device: Device,
    emit: Emit,
    control: Control,
    resumed: SavedStep | None,
    *,
    save_last: bool = False,
) -> tuple[Trainer, ProgressCallback]:
    """The Trainer of a run, and the callback that follows it. Emits Started. `save_last`: the last
    step is saved too, since something comes after it."""
    processes = world_size()
    facts = isinstance(rows, FactRows)
    count = rows_per_epoch(config, rows.pairs) if isinstance(rows, FactRows) else len(rows)
    per_epoch = steps_per_epoch(config, count, processes)
    steps = total_steps(config, count, processes)
    tokens = (
        round(rows.tokens_per_step * per_epoch)
        if isinstance(rows, FactRows)
        else sum(rows["length"])
    )
    collate = distillation.collate if facts else tokenization.pack
    emit(
        Started(
            device=device.name,
            precision=config.precision,
            parameters=base_parameters(model),
            trainable=sum(one.numel() for one in model.parameters() if one.requires_grad),
            examples=count,
            tokens=tokens,
            steps=steps,
            epochs=steps / per_epoch,
            batch_size=config.batch_size,
            gradient_accumulation=config.gradient_accumulation,
            learning_rate=config.learning_rate,
            processes=processes,
            resumed_from=resumed.step if resumed else 0,
            taught=config.examples,
        )
    )
    progress = ProgressCallback(
        emit, control, steps, tokens / per_epoch, config.save_every_s, resumed, save_last
    )
    arguments = TrainingArguments(
        output_dir=str(job / STEPS_DIR),
        max_steps=steps,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(steps * config.warmup_ratio),
        weight_decay=config.weight_decay,
        adam_beta2=_adam_beta2(config),
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        use_cpu=device.name == "cpu",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # `ProgressCallback` decides by time
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=device.name == "cuda",
        ddp_find_unused_parameters=False,
        remove_unused_columns=not facts,
        seed=config.seed,
    )
    trainer = (_FactsTrainer if facts else Trainer)(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=partial(collate, width=config.max_length, pad_id=tokenizer.eos_token_id),
        callbacks=[progress],
        optimizers=(_optimizer(config, model), None),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer, progress


def take_steps(trainer: Trainer, progress: ProgressCallback, resumed: SavedStep | None) -> None:
    """Take the steps that are left. Where none is, only what the last one left is read: the Trainer
    would begin another epoch."""
    if resumed is None or resumed.step < trainer.args.max_steps:
        trainer.train(resume_from_checkpoint=str(resumed.folder) if resumed else None)
        return
    whole: Any = trainer  # it has no public method for that
    whole._load_from_checkpoint(str(resumed.folder))
    state = TrainerState.load_from_json(str(resumed.folder / TRAINER_STATE_NAME))
    progress.on_train_begin(trainer.args, state, trainer.control)


class _FactsTrainer(Trainer):
    """Takes the rows in their order: a curriculum draws them step by step."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        rows: Any = self.train_dataset
        return SequentialSampler(rows)


def _optimizer(config: TrainingConfig, model: nn.Module) -> torch.optim.Optimizer | None:
    """None: the Trainer's own AdamW."""
    if config.optimizer == "adamw":
        return None
    return MuonWithAdamW(model, config.learning_rate, config.weight_decay)


def _adam_beta2(config: TrainingConfig) -> float:
    """Lower where there are few steps: the gradients of the first ones soon mean little."""
    if config.architecture:
        return 0.95
    return 0.99 if config.recipe == "facts" else 0.999


def base_parameters(model: nn.Module) -> int:
    """The parameters of the model without LoRA's."""
    return sum(one.numel() for name, one in model.named_parameters() if "lora_" not in name)


class ProgressCallback(TrainerCallback):
    """Records the loss of every step, emits events, and between steps holds, saves or pauses."""

    def __init__(
        self,
        emit: Emit,
        control: Control,
        steps: int,
        tokens_per_step: float,
        save_every_s: float,
        resumed: SavedStep | None,
        save_last: bool = False,
    ) -> None:
        self._emit = emit
        self._control = control
        self._steps = steps
        self._tokens_per_step = tokens_per_step
        self._save_every_s = save_every_s
        self._save_last = save_last
        self._first_step = resumed.step if resumed else 0
        self._prior_seconds = resumed.seconds if resumed else 0.0
        self.began_at = self.started_at = self._last_save = time.monotonic()
        self._last_event = 0.0
        self.history: list[dict[str, float]] = []
        self.paused_at: int | None = None

    @property
    def losses(self) -> list[float]:
        return [entry["loss"] for entry in self.history]

    @property
    def last_step(self) -> int:
        """The number of the last step that was taken."""
        return int(self.history[-1]["step"]) if self.history else 0

    @property
    def seconds(self) -> float:
        """The duration of the run so far, without the time for which it was held."""
        return self._prior_seconds + time.monotonic() - self.started_at

    def tokens_per_s(self) -> float:
        """The speed of this process since it began, in tokens a second without padding."""
        done = self.last_step - self._first_step
        return self._tokens_per_step * done / max(1e-9, time.monotonic() - self.started_at)

    def recent_loss(self) -> float:
        """The mean loss of the last tenth of the steps (one step is noisy), in nats a token."""
        tail = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(tail) / len(tail)

    def check_finite(self) -> None:
        """Raise LossNotFinite if the last loss is not a number."""
        if not self.losses or not math.isfinite(self.losses[-1]):
            raise LossNotFinite(
                phrase("The loss became NaN: training diverged. A lower learning rate would help.")
            )

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.began_at = self.started_at = self._last_save = time.monotonic()
        for entry in state.log_history:
            if "loss" in entry:
                self._record_loss(int(entry["step"]), float(entry["epoch"]), float(entry["loss"]))

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.started_at += self._control.wait_while_held()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.started_at += self._control.wait_while_held()
        last = state.global_step >= self._steps
        pause = self._control.pause_requested.is_set() and not last
        due = self._save_last if last else time.monotonic() - self._last_save >= self._save_every_s
        save = pause or due
        pause, save = _broadcast_flags(args, pause, save)
        if save:
            control.should_save = True
        if pause:
            control.should_training_stop = True
            self.paused_at = state.global_step

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._last_save = time.monotonic()
        if state.is_world_process_zero:
            self._complete_step(args, state)
        self._emit(Saved(state.global_step))

    def _complete_step(self, args: TrainingArguments, state: TrainerState) -> None:
        """Mark the saved step as complete, and remove the others."""
        assert args.output_dir is not None  # it was given
        root = Path(args.output_dir)
        folder = root / f"checkpoint-{state.global_step}"
        facts = {"step": state.global_step, "seconds": round(self.seconds, 1)}
        unfinished = folder / f".{COMPLETE_MARKER}"  # the marker must appear as a whole, and last
        unfinished.write_text(json.dumps(facts), encoding="utf-8")
        unfinished.replace(folder / COMPLETE_MARKER)
        for other in root.glob("checkpoint-*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)

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
        self._record_loss(step, epoch, loss)
        if not math.isfinite(loss):
            control.should_training_stop = True  # `check_finite` then raises
            control.should_save = False
        if now - self._last_event >= STEP_EVENT_INTERVAL_S or step == self._steps:
            self._last_event = now
            per_step = (now - self.started_at) / max(1, step - self._first_step)
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

    def _record_loss(self, step: int, epoch: float, loss: float) -> None:
        self.history.append({"step": step, "epoch": round(epoch, 4), "loss": round(loss, 5)})


def _broadcast_flags(args: TrainingArguments, pause: bool, save: bool) -> tuple[bool, bool]:
    """On several devices, all follow the flags of the first: saving is a joint operation."""
    if args.world_size == 1:
        return pause, save
    flags = torch.tensor([int(pause), int(save)], device=args.device)
    torch.distributed.broadcast(flags, src=0)
    return bool(flags[0]), bool(flags[1])
