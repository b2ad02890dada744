"""One training run: load the base and the data, train, evaluate, save the checkpoint.

Does not know the process around it: `emit` takes its events, and `Control` pauses it.
"""

from __future__ import annotations

import gc
import json
import math
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.limits import trim_heap
from core.records import Conversation
from data.dataset.preferences import Preference, preference_digests, read_preferences
from data.dataset.snapshot import answer_digests, learned_digests
from data.judgement.golden import read_questions
from i18n.phrase import phrase, serialize_phrase
from model.convert.validation import WEIGHTS_FILE
from model.own_templates import is_japanese
from model.registry import is_embedded
from model.runners.device import Device, disable_cudnn_attention, is_out_of_memory, training_device
from training import checkpoints
from training.checkpoints import Manifest
from training.config import TrainingConfig, halve_batch_size, total_steps
from training.errors import NOTHING_TAUGHT, EmptyDataset, NotEnoughDisk, OutOfMemory
from training.jobs import folder as files
from training.jobs.estimate import FP32_BYTES
from training.jobs.events import (
    Checking,
    Finished,
    Lowered,
    Paused,
    Preferring,
    Preparing,
    Rejected,
)
from training.plots.loss import draw_loss_curve
from training.run import tokenization
from training.run.base_model import lora_parameters, prepare_model, with_lora
from training.run.curriculum import make_curriculum, rows_per_epoch
from training.run.distillation import FactRows, with_distillation
from training.run.failure import out_of_memory_advice
from training.run.forgetting.measure import write_receipt
from training.run.gate import evaluation
from training.run.interpolation import interpolate, lora_start
from training.run.loop import (
    Control,
    Emit,
    ProgressCallback,
    base_parameters,
    logits_on_labels_only,
    make_trainer,
    rank,
    take_steps,
    world_size,
)
from training.run.measures import mean_loss
from training.run.mixing import augment, mix_replay, read_conversations
from training.run.preferences.second_stage import NO_MEMORY, SecondStage
from training.run.shared_base import adapter_base, is_embedded_folder, keep_embedded, write_base

NOT_EVALUATED = phrase(
    "All steps were taken, but there was not enough memory to check the new model beside the old "
    "one: free some memory, or train a smaller base."
)


def train(
    job: Path, emit: Emit, control: Control | None = None, began: float | None = None
) -> None:
    """Run the job in this folder, from its last saved step if there is one.

    `began` is when the process did, by `time.monotonic`. If memory runs out, restart with half the
    batch size and twice the accumulation. Raises TrainingError if there is nothing to learn, or the
    run failed."""
    made = job / files.CHECKPOINT_DIR
    if (made / checkpoints.MANIFEST_FILE).is_file():  # an earlier run ended, but its event was lost
        report = checkpoints.read_report(made)
        _emit_result(made, checkpoints.verify(made), report.refusal if report else None, emit)
        return
    began = time.monotonic() if began is None else began
    emit(Preparing())
    config = TrainingConfig.load(job / files.CONFIG_FILE)
    control = control or Control()
    while (trained := _try_train(job, config, emit, control)) is None:
        _free_memory()
        config = halve_batch_size(config)
        config.save(job / files.CONFIG_FILE)
        emit(Lowered(config.batch_size, config.gradient_accumulation))
    run, progress = trained
    if progress.paused_at is not None:
        emit(Paused(progress.paused_at))
    elif rank() == 0:
        _free_memory()  # of the optimiser, for the models to compare with
        try:
            _evaluate_and_save(run, progress, emit, control, began)
        except Exception as e:
            if is_out_of_memory(e):
                raise OutOfMemory(NOT_EVALUATED) from e
            raise


def _emit_result(made: Path, manifest: Manifest, refusal: str | None, emit: Emit) -> None:
    if refusal:
        emit(Rejected(str(made), refusal))
        return
    first, last = (manifest.scores[key] for key in ("first_loss", "last_loss"))
    emit(Finished(str(made), manifest.seconds, first, last))


def _try_train(
    job: Path, config: TrainingConfig, emit: Emit, control: Control
) -> tuple[Run, ProgressCallback] | None:
    """Returns None if memory ran out and smaller batches may help."""
    try:
        run = Run.load(job, config)
        return run, run.train(emit, control)
    except Exception as e:
        if not is_out_of_memory(e):
            raise
        if config.batch_size == 1 or world_size() > 1:
            raise OutOfMemory(out_of_memory_advice(config)) from e
        return None


def _free_memory() -> None:
    """Return PyTorch's cached memory to the device, and malloc's to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim_heap()


def _evaluate_and_save(
    run: Run, progress: ProgressCallback, emit: Emit, control: Control, began: float
) -> None:
    """Learn from votes, if there are any, evaluate the model, and save it; not if a pause is
    requested while it learns."""
    trained_s, trained_at = progress.seconds, time.monotonic()
    extra_s = progress.started_at - progress.began_at  # for which it was held
    stage = run.second_stage(progress.last_step)
    if stage is None:
        emit(Checking())
    scores = {"first_loss": progress.losses[0], "last_loss": progress.recent_loss()}
    if run.config.blend:
        scores["kept_share"] = run.interpolate()
    if stage is None:
        run.merge()
        report = run.evaluate(scores)
    else:
        if stage.reason is None:
            emit(Preferring(stage.steps))
        if not stage.run(control):
            emit(Paused(progress.last_step))
            return
        emit(Checking())
        _free_memory()  # of its optimiser
        report, held_out = stage.choose(run.evaluate_merged)
        scores |= held_out
        extra_s += stage.seconds
        run = replace(run, preferences=stage.learned)
        run.merge()
    overhead_s = progress.started_at - began + time.monotonic() - trained_at - extra_s
    speed = progress.tokens_per_s()
    manifest = run.manifest(scores, trained_s + extra_s, overhead_s, speed)
    made = run.save(manifest, report, progress.history)
    if run.config.replaces:  # a model that was saved stays, whatever happens while it is measured
        _free_memory()
        voice = (run.model, run.tokenizer)
        write_receipt(run.job, run.config, voice, control, passed=report.is_sound)
    shutil.rmtree(run.job / files.STEPS_DIR, ignore_errors=True)  # no longer needed to resume
    if not run.preferences:
        (run.job / files.PREFERENCES_FILE).unlink(missing_ok=True)
    _emit_result(made, manifest, report.refusal, emit)


@dataclass(frozen=True, slots=True)
class Run:
    """A base and the rows to train on; `config` is fully resolved.

    `learner` is the model, or with LoRA what wraps it. `base` is the folder that an adapter refers
    to; None if the checkpoint is a model of its own. `preferences` are what to learn in the second
    stage; afterwards, what was learned in it."""

    job: Path
    config: TrainingConfig
    device: Device
    model: PreTrainedModel
    learner: Any
    base: Path | None
    tokenizer: PreTrainedTokenizerBase
    taught: list[Conversation]
    rows: Dataset | FactRows
    preferences: list[Preference]

    @classmethod
    def load(cls, job: Path, config: TrainingConfig) -> Run:
        """Load the base and the data set. Raises BaseUnavailable, EmptyDataset, CorruptData,
        NotEnoughDisk: the run cannot start."""
        transformers.set_seed(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        device = training_device()
        if device.name == "cuda":
            disable_cudnn_attention()
        if config.precision == "auto":
            config = replace(config, precision=device.training_precision)
        taught = read_conversations(job / files.DATASET_FILE)
        if not taught:
            raise EmptyDataset(NOTHING_TAUGHT)
        model, tokenizer = prepare_model(config, taught)
        config = replace(
            config,
            max_length=min(config.max_length, int(model.config.n_positions)),
            examples=config.examples or len(taught),
        )
        rows = _rows(config, tokenizer, taught)
        base = adapter_base(config, model, tokenizer)
        _require_disk_space(job, config, model, base)
        if base is not None:
            if is_embedded_folder(base):
                keep_embedded(config, base)
            else:
                write_base(base, config, model, tokenizer)
            model.name_or_path = str(base)  # peft writes it into the adapter's settings
        lora = config.method == "lora"
        learner = with_lora(model, config.lora_rank, config.lora_targets) if lora else model
        preferences = read_preferences(job / files.PREFERENCES_FILE)
        parts = (job, config, device, model, learner, base, tokenizer, taught, rows)
        return cls(*parts, preferences)

    def train(self, emit: Emit, control: Control) -> ProgressCallback:
        """Run the Trainer."""
        resumed = files.latest_saved_step(self.job)
        if isinstance(self.rows, FactRows):  # what all words share is better left alone
            self.model.get_input_embeddings().requires_grad_(False)
        parts = (self.job, self.config, self.learner, self.tokenizer, self.rows, self.device)
        # The second stage begins there again after a pause.
        save_last = bool(self.preferences)
        trainer, progress = make_trainer(*parts, emit, control, resumed, save_last=save_last)
        with self._loss():
            take_steps(trainer, progress, resumed)
        if progress.paused_at is None:
            progress.check_finite()
        return progress

    def _loss(self) -> AbstractContextManager[None]:
        """Inside, the model computes the loss of the recipe."""
        if not isinstance(self.rows, FactRows):
            return logits_on_labels_only(self.model)
        as_base = self.learner.disable_adapter if self.config.method == "lora" else None
        return with_distillation(self.model, self.rows, as_base)

    def interpolate(self) -> float:
        """Move the weights back towards the base as far as the taught answers allow; return the
        share of the change that was kept."""
        if self.config.method == "lora":
            start = lora_start(self.model)
        else:
            start = dict(prepare_model(self.config, self.taught)[0].named_parameters())
        talks = augment(self.taught, [], self.config.seed)
        rows = tokenization.examples(self.tokenizer, talks, self.config.max_length, "bot").to_list()
        return interpolate(self.model, start, rows, self.tokenizer.eos_token_id)

    def second_stage(self, supervised_steps: int) -> SecondStage | None:
        """The stage that learns from votes; None if there are none."""
        if not self.preferences:
            return None
        parts = (self.model, self.tokenizer, self.config, self.preferences, self.taught)
        stage = SecondStage(*parts, supervised_steps)
        if (self.job / files.NO_VOTES_FILE).exists():
            stage.reason = NO_MEMORY
        return stage

    def evaluate_merged(self) -> tuple[evaluation.EvaluationReport, dict[str, float]]:
        """The same as `evaluate`, on weights that are merged meanwhile, and the scores."""
        scores: dict[str, float] = {}
        if self.config.method != "lora":
            return self.evaluate(scores), scores
        self.learner.merge_adapter()
        try:
            return self.evaluate(scores), scores
        finally:
            self.learner.unmerge_adapter()

    def merge(self) -> None:
        """Merge LoRA's matrices into the weights, as they are checked; those of an adapter are kept
        beside them."""
        if self.base is not None:
            self.learner.merge_adapter()
        elif self.config.method == "lora":
            self.learner.merge_and_unload()

    def evaluate(self, scores: dict[str, float]) -> evaluation.EvaluationReport:
        """Run the checks, if enabled, and add the held-out loss to `scores`."""
        own = self.job / files.HELD_OUT_FILE
        held_out = read_conversations(own) if own.exists() else []
        model, tokenizer, config = self.model, self.tokenizer, self.config
        if held_out:
            loss = mean_loss(model, tokenizer, held_out, config.max_length)
            scores["held_out_loss"] = loss
            scores["held_out_perplexity"] = math.exp(min(loss, 700.0))  # e**710 is too large
        if not config.gate:
            return evaluation.EvaluationReport()
        base, serving = config.base, config.serving
        return evaluation.evaluate(
            model,
            tokenizer,
            self.taught,
            base=base,
            serving=serving,
            own=held_out,
            facts=config.recipe == "facts",
            golden=read_questions(self.job / files.GOLDEN_FILE),
        )

    def manifest(
        self, scores: dict[str, float], trained_s: float, overhead_s: float, tokens_per_s: float
    ) -> Manifest:
        return Manifest(
            name=self.config.name,
            base=self.config.base,
            base_name=self._base_name(),
            parents=list(self.config.parents),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            dataset_sha256=checkpoints.sha256(self.job / files.DATASET_FILE),
            parameters=base_parameters(self.model),
            examples=self.config.examples,
            seconds=round(trained_s + overhead_s, 1),
            overhead_s=round(overhead_s, 1),
            tokens_per_s=round(tokens_per_s, 1),
            device=self.device.name,
            torch=torch.__version__,
            consent=self._consent(),
            adapter=self._adapter(),
            preferences_sha256=self._preferences_sha256(),
            settings=asdict(self.config),
            scores={key: round(value, 5) for key, value in scores.items()},
        )

    def _consent(self) -> dict[str, int | None]:
        """Whose words, and whose votes, the model learned."""
        taught = None if self.preferences else _read_json(self.job / files.TAUGHT_CONSENT_FILE)
        return taught or _read_json(self.job / files.CONSENT_FILE) or {}

    def _preferences_sha256(self) -> str:
        return checkpoints.sha256(self.job / files.PREFERENCES_FILE) if self.preferences else ""

    def _base_name(self) -> str:
        """A copy of an embedded model is not called as that is: adapters find theirs by name."""
        name = self.config.base_name
        if self.base is None or is_embedded_folder(self.base) or not is_embedded(name):
            return name
        return self.base.name

    def _adapter(self) -> dict[str, Any] | None:
        if self.base is None:
            return None
        weights = checkpoints.sha256(self.base / WEIGHTS_FILE)
        return {"base_sha256": weights, "rank": self.config.lora_rank}

    def save(
        self,
        manifest: Manifest,
        report: evaluation.EvaluationReport,
        history: list[dict[str, float]],
    ) -> Path:
        """Write and seal the checkpoint in a partial folder, then rename it, so that a run killed
        at any point leaves no incomplete checkpoint that looks complete."""
        made = self.job / files.CHECKPOINT_DIR
        partial = made.with_name(f"{made.name}.partial")
        for old in (partial, made):  # left by a run that was killed here
            shutil.rmtree(old, ignore_errors=True)
        partial.mkdir()
        try:
            self._save_weights(partial)
            self.tokenizer.save_pretrained(partial)
            curve, language = partial / checkpoints.LOSS_CURVE_FILE, self.config.language
            draw_loss_curve(history, curve, title=manifest.name, language=language)
            steps = {"settings": manifest.settings, "seconds": manifest.seconds, "log": history}
            _write_json(partial / checkpoints.HISTORY_FILE, steps)
            _write_json(partial / checkpoints.REPORT_FILE, self._report(report, manifest.seconds))
            learned = {
                "pairs": learned_digests(self.taught),
                "answers": answer_digests(self.taught),
                "judged": preference_digests(self.preferences),
            }
            _write_json(partial / checkpoints.LEARNED_FILE, learned)
            checkpoints.seal(partial, manifest)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)  # frees a full disk
            raise
        partial.replace(made)
        return made

    def _save_weights(self, folder: Path) -> None:
        if self.base is None:
            self.model.save_pretrained(folder)
            return
        self.learner.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink()  # peft's model card, with nothing filled in

    def _report(self, report: evaluation.EvaluationReport, seconds: float) -> dict[str, Any]:
        return {
            "answers": [asdict(one) for one in report.answers],
            "losses": report.losses,
            "data": _read_json(self.job / files.CHANGES_FILE),
            "seconds": seconds,
            "summary": report.summary,
            "failures": [
                asdict(one) | {checkpoints.PACKED_WRONG_KEY: serialize_phrase(one.wrong)}
                for one in report.failures
            ],
            "golden": [asdict(one) for one in report.golden],
            "refusal": report.refusal,
            "votes": report.votes,
            checkpoints.PACKED_VOTES_KEY: report.votes and serialize_phrase(report.votes),
            checkpoints.PACKED_SUMMARY_KEY: report.summary and serialize_phrase(report.summary),
            checkpoints.PACKED_REFUSAL_KEY: report.refusal and serialize_phrase(report.refusal),
        }


def _rows(
    config: TrainingConfig, tokenizer: PreTrainedTokenizerBase, taught: list[Conversation]
) -> Dataset | FactRows:
    """The tokenized examples; raises EmptyDataset if none has a token to learn."""
    rows: Dataset | FactRows
    if config.recipe == "facts":
        curriculum = make_curriculum(config, taught, japanese=is_japanese(tokenizer))
        steps = total_steps(config, rows_per_epoch(config, len(taught)), world_size())
        rows = FactRows(curriculum, tokenizer, steps * world_size(), config.max_length)
    elif config.packing:
        rows = tokenization.packed_blocks(tokenizer, taught, config.max_length)
    else:
        mixed = mix_replay(config, taught, japanese=is_japanese(tokenizer))
        rows = tokenization.examples(tokenizer, mixed, config.max_length, config.loss_on)
    if not len(rows):
        raise EmptyDataset(
            phrase("None of the examples has anything for me to say: they are all empty.")
        )
    return rows


def _require_disk_space(
    job: Path, config: TrainingConfig, model: PreTrainedModel, base: Path | None
) -> None:
    """Raise NotEnoughDisk if the run could not save its state, its checkpoint, or the base of its
    adapter if that must be written first.

    A saved step takes three times the trained fp32 weights (Adam has two moments), and its
    predecessor is removed only once it is complete: six times in all."""
    weights = trained = FP32_BYTES * model.num_parameters()
    if config.method == "lora":
        trained = FP32_BYTES * lora_parameters(model, config.lora_rank, config.lora_targets)
    checkpoint = weights if base is None else trained
    need = max(checkpoint, 6 * trained - checkpoints.folder_bytes(job / files.STEPS_DIR))
    if base is not None and not base.is_dir():
        need += weights
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


def _read_json(path: Path) -> Any:
    """The content of a file, or None if it is missing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
