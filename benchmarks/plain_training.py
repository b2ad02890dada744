"""The peers of `benchmarks.training` and `benchmarks.knowing`: a job learned in the plainest ways.

`python -m benchmarks.plain_training KIND JOB_DIR` prints one JSON object. KIND:
`trainer` a Hugging Face Trainer that pads every example to `max_length`; `loop` the textbook loop
in torch; `nothing` the base as it is; `plain` and `lora` fine-tune with a Trainer, all weights or
with LoRA, and write JOB_DIR/checkpoint; `twin` writes tiny with random weights to JOB_DIR.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    get_linear_schedule_with_warmup,
    set_seed,
)

from model.own_templates import ensure_template
from model.registry import EMBEDDED_FOLDER
from training.config import TrainingConfig, total_steps
from training.run import tokenization
from training.run.main import NICE
from training.run.mixing import read_conversations


class Job:
    """A job's folder, read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = TrainingConfig.load(folder / "config.json")
        base = str(self.config.base)
        set_seed(self.config.seed)
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(base)
        ensure_template(self.tokenizer)
        self.model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        taught = read_conversations(folder / "dataset.jsonl")
        self.rows = tokenization.examples(self.tokenizer, taught, self.config.max_length, "bot")
        self.tokens = sum(self.rows["length"])

    def pad(self, rows: Any, longest: int | None) -> dict[str, torch.Tensor]:
        """Rows padded to `longest`, or to the longest among them."""
        batch = tokenization.collate(rows, pad_id=self.tokenizer.eos_token_id)
        short = (longest or 0) - batch["input_ids"].shape[1]
        fill = {
            "input_ids": self.tokenizer.eos_token_id,
            "labels": tokenization.IGNORE_INDEX,
            "attention_mask": 0,
        }
        return {
            name: torch.nn.functional.pad(values, (0, max(0, short)), value=fill[name])
            for name, values in batch.items()
        }

    def held_out_loss(self) -> float:
        """The mean loss a token, by the plain forward pass."""
        turns = read_conversations(self.folder / "held_out.jsonl")
        rows = tokenization.examples(self.tokenizer, turns, self.config.max_length, "bot")
        self.model.train(False)
        total, count = 0.0, 0
        with torch.inference_mode():
            for batch in DataLoader(rows.to_list(), 8, collate_fn=lambda one: self.pad(one, None)):
                scores = self.model(
                    input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
                ).logits[:, :-1]
                labels = batch["labels"][:, 1:]
                total += float(
                    torch.nn.functional.cross_entropy(
                        scores.transpose(1, 2), labels, reduction="sum"
                    )
                )
                count += int((labels != tokenization.IGNORE_INDEX).sum())
        return total / count


def trainer(job: Job, longest: int | None) -> dict[str, Any]:
    """Rows are padded to `longest`, or to the longest of their batch."""
    config = job.config
    arguments = TrainingArguments(
        output_dir=str(job.folder / "plain"),
        max_steps=total_steps(config, len(job.rows)),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        warmup_steps=round(total_steps(config, len(job.rows)) * config.warmup_ratio),
        weight_decay=config.weight_decay,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
    )
    peer = Trainer(
        model=job.model,
        args=arguments,
        train_dataset=job.rows,
        data_collator=lambda rows: job.pad(rows, longest),
    )
    began, cpu = time.perf_counter(), time.process_time()
    peer.train()
    return {
        "tokens_per_s": job.tokens / (time.perf_counter() - began),
        "tokens_per_cpu_s": job.tokens / (time.process_time() - cpu),
    }


def loop(job: Job) -> dict[str, Any]:
    config = job.config
    steps = total_steps(config, len(job.rows))
    optimizer = torch.optim.AdamW(
        job.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = get_linear_schedule_with_warmup(optimizer, round(steps * config.warmup_ratio), steps)
    batches = DataLoader(
        job.rows.to_list(),
        config.batch_size,
        shuffle=True,
        collate_fn=lambda rows: job.pad(rows, None),
    )
    job.model.train()
    began = time.perf_counter()
    for batch in batches:
        job.model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(job.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return {"tokens_per_s": job.tokens / (time.perf_counter() - began)}


def fine_tune(job: Job, kind: str) -> None:
    """Learn the job with a Trainer that pads to the longest of a batch, and save the model."""
    if kind == "lora":
        job.model = get_peft_model(
            job.model, LoraConfig(task_type="CAUSAL_LM", fan_in_fan_out=True)
        )
    trainer(job, longest=None)
    if kind == "lora":
        job.model = job.model.merge_and_unload()
    job.model.save_pretrained(job.folder / "checkpoint")
    job.tokenizer.save_pretrained(job.folder / "checkpoint")


def twin(folder: Path) -> None:
    set_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(EMBEDDED_FOLDER))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(EMBEDDED_FOLDER).save_pretrained(folder)


def main(kind: str, folder: Path) -> int:
    if hasattr(os, "nice"):
        os.nice(NICE)  # as our runs, or other work on the machine would slow down only those
    if kind == "twin":
        twin(folder)
        return 0
    job = Job(folder)
    if kind in ("plain", "lora"):
        fine_tune(job, kind)
        return 0
    kinds = {
        "trainer": lambda job: trainer(job, job.config.max_length),
        "loop": loop,
        "nothing": lambda _: {},
    }
    figures = kinds[kind](job)
    print(json.dumps(figures | {"held_out_loss": job.held_out_loss()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
