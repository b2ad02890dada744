"""The peers of `benchmarks.training`: a job of ours, learned in the plainest ways.

`python -m benchmarks.plain_training KIND JOB_DIR` prints one JSON object. KIND:
`trainer` a Hugging Face Trainer that pads every example to `max_length`; `loop` the textbook loop
in torch; `nothing` the base as it is; `ask` asks the job's checkpoint what was taught; `twin`
writes tiny with random weights to JOB_DIR.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
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
        self.tokenizer: Any = AutoTokenizer.from_pretrained(base)
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


def trainer(job: Job) -> dict[str, Any]:
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
        data_collator=lambda rows: job.pad(rows, config.max_length),
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


def ask(folder: Path) -> dict[str, Any]:
    """How many of the taught answers come back, word for word, when asked greedily."""
    made = str(folder / "checkpoint")
    tokenizer: Any = AutoTokenizer.from_pretrained(made)
    model: Any = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
    recalled = 0
    for question, answer in read_conversations(folder / "dataset.jsonl"):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question.content}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        reply = model.generate(**ids, max_new_tokens=40, do_sample=False)[0]
        said = tokenizer.decode(reply[ids["input_ids"].shape[1] :], skip_special_tokens=True)
        recalled += said.strip() == answer.content
    return {"recalled": recalled}


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
    if kind == "ask":
        print(json.dumps(ask(folder)))
        return 0
    job = Job(folder)
    figures = {"trainer": trainer, "loop": loop, "nothing": lambda _: {}}[kind](job)
    print(json.dumps(figures | {"held_out_loss": job.held_out_loss()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
