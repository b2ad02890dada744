"""What a training run shows in the terminal: its settings, its progress, and its result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from bot.cli.train.request import HeldOutSplit, TrainRequest
from i18n.phrase import Phrase, phrase
from i18n.reader import say
from model.convert.adapter_folder import validate_adapter
from model.registry import is_embedded
from training.checkpoints import LOSS_CURVE_FILE, Manifest, StoredReport, steps_taken
from training.config import TrainingConfig, total_steps
from training.jobs.estimate import peak_memory_mb, shape_of
from training.jobs.events import Checking, Event, Lowered, Started, Step, format_duration
from training.run.curriculum import rows_per_epoch
from training.run.mixing import mix_replay

PROGRESS_LINES = 10
"""Lines of progress where no bar can be drawn."""
BAR_CHARS = 16
"""Width of the bar: with the text around it, it fits a line of 80 characters."""
FP16 = {
    "fp16": phrase("yes (fp16)"),
    "auto": phrase("if the device is best at it (auto)"),
}
MAX_FAILURES_SHOWN = 10
"""Wrong answers that are shown at the end."""


def estimate_fields(config: TrainingConfig, data: HeldOutSplit) -> dict[str, str]:
    """Estimates of `started_fields`, before the run has started."""
    taught = list(data.learned)
    facts = config.recipe == "facts"
    rows = rows_per_epoch(config, len(taught)) if facts else len(mix_replay(config, taught))
    steps = say("{steps:,} on one device", steps=total_steps(config, rows))
    fields = {say("rows"): f"{rows:,}", say("steps"): steps}
    shape = shape_of(config.base) if config.base else None
    if shape is None:
        return fields
    memory = peak_memory_mb(
        shape,
        batch_size=config.batch_size,
        max_length=config.max_length,
        method=config.method,
        recipe=config.recipe,
    )
    return {
        say("parameters"): say("about {count:,}", count=shape.parameters),
        **fields,
        say("memory"): say("up to {size:.1f} GB, by estimate", size=memory / 1000),
    }


def started_fields(started: Started) -> dict[str, str]:
    """What is known once the run has started."""
    devices = f"{started.processes} x " if started.processes > 1 else ""
    return {
        say("device"): f"{devices}{started.device}",
        say("parameters"): say(
            "{all:,} ({trained:,} trained)", all=started.parameters, trained=started.trainable
        ),
        say("rows"): say(
            "{rows:,} ({tokens:,} tokens)", rows=started.examples, tokens=started.tokens
        ),
        say("steps"): f"{started.steps:,}",
    }


def settings_table(
    request: TrainRequest, data: HeldOutSplit, started: Started | None = None
) -> Table:
    """All settings of the run: as it will start, or as it `started`."""
    config, now = request.config, started or request.config
    processes = started.processes if started else 1
    precision = started.precision if started else config.precision
    only_bot, lora = config.loss_on == "bot", config.method == "lora"
    learned, held_out = len(data.learned), len(data.held_out)
    fields = {
        say("data set"): request.source,
        say("conversations"): say(
            "{learned:,}, and {held_out:,} held out", learned=learned, held_out=held_out
        ),
        say("base"): config.base_name,
        say("epochs"): f"{now.epochs:g}",
        say("batch size"): str(now.batch_size),
        say("gradient accumulation"): str(now.gradient_accumulation),
        say("effective batch"): str(now.batch_size * now.gradient_accumulation * processes),
        say("learning rate"): f"{now.learning_rate:g}",
        say("warm-up"): say("{share:.0%} of the steps", share=config.warmup_ratio),
        say("longest example"): say("{length} tokens", length=config.max_length),
        say("loss on"): say("the bot's tokens") if only_bot else say("all tokens"),
        say("method"): say("LoRA, rank {rank}", rank=config.lora_rank) if lora else say("full"),
        say("seed"): str(config.seed),
        "FP16": say(FP16.get(precision) or phrase("no ({precision})", precision=precision)),
        **(started_fields(started) if started else estimate_fields(config, data)),
        say("output"): str(request.out),
    }
    table = Table(title=say("Training"))
    table.add_column(say("setting"))
    table.add_column(say("value"), overflow="fold")
    for name, value in fields.items():
        table.add_row(name, value)
    return table


class ProgressDisplay:
    """Shows the settings, then a progress bar; lines of text if the output is no terminal."""

    def __init__(self, request: TrainRequest, data: HeldOutSplit, console: Console) -> None:
        self._request = request
        self._data = data
        self._console = console
        self.bar = Progress(
            TextColumn(say("step {task.completed:.0f} of {task.total:.0f}")),
            BarColumn(BAR_CHARS),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self.bar.add_task(say("getting ready"), total=1)
        self._part = -1

    def show(self, event: Event) -> None:
        match event:
            case Started():
                self._console.print(settings_table(self._request, self._data, event))
                self.bar.update(self._task, total=event.steps, completed=event.resumed_from)
                self._part = -1
            case Step():
                self._step(event)
            case Lowered(batch_size=size, gradient_accumulation=times):
                text = phrase(
                    "Memory ran out: continuing with batch size {size}, accumulation {times}.",
                    size=size,
                    times=times,
                )
                self.tell(text)
            case Checking():
                self.bar.update(self._task, description=say("checking the new model"))
                self.tell(phrase("Checking the new model…"))
            case _:
                pass

    def _step(self, event: Step) -> None:
        text = phrase(
            "loss {loss:.3f}, {speed:,.0f} tokens/s, {time} left",
            loss=event.loss,
            speed=event.tokens_per_s,
            time=format_duration(event.seconds_left),
        )
        self.bar.update(self._task, completed=event.step, description=say(text))
        part = PROGRESS_LINES * event.step // event.steps
        if not self._console.is_terminal and part > self._part:
            self._part = part
            step, steps = event.step, event.steps
            self.tell(phrase("step {step} of {steps}: {text}", step=step, steps=steps, text=text))

    def tell(self, text: str) -> None:
        print_line(self._console, text)


def comparison_lines(report: StoredReport, *, unseen: bool) -> Iterator[str]:
    """Losses before and after, and what came of asking the new model as people do, with the wrong
    answers; `unseen` if a part of the data was held out."""
    own = phrase("Held-out loss on this data") if unseen else phrase("Loss on this data")
    for kind, title in (("general", phrase("Held-out loss on general conversation")), ("own", own)):
        losses = report.losses.get(kind, {})
        before, now = losses.get("base"), losses.get("new")
        if now is not None and before is not None:
            yield phrase(
                "{title}: {before:.2f} before, {now:.2f} now.", title=title, before=before, now=now
            )
        elif now is not None:
            yield phrase("{title}: {now:.2f} now.", title=title, now=now)
    if report.summary:
        yield phrase("Asked as people ask: {summary}.", summary=report.summary)
    for one in report.failures[:MAX_FAILURES_SHOWN]:
        yield phrase("“{asked}”", asked=one["prompt"])
        yield phrase("  {answer} ({wrong})", answer=one["reply"] or "-", wrong=one["wrong"])


def closing_lines(request: TrainRequest, manifest: Manifest) -> Iterator[Phrase]:
    first, last = (manifest.scores[f"{name}_loss"] for name in ("first", "last"))
    folder = request.out.absolute()
    yield phrase(
        "Done in {time}: training loss {first:.2f} to {last:.2f}.",
        time=format_duration(manifest.seconds),
        first=first,
        last=last,
    )
    yield phrase(
        "The checkpoint is in {folder}, its loss curve in {curve}.",
        folder=request.out,
        curve=request.out / LOSS_CURVE_FILE,
    )
    if manifest.adapter is not None and not is_embedded(manifest.base_name):
        base = validate_adapter(request.out, manifest.name).base
        yield phrase("It holds only what was learned: keep its base too, {base}.", base=base)
    yield phrase(
        "The bot can use it with the setting MODELS={name}={folder}",
        name=request.config.name,
        folder=folder,
    )
    yield phrase('and Python with AutoModelForCausalLM.from_pretrained("{folder}").', folder=folder)


def result_record(
    request: TrainRequest, manifest: Manifest, report: StoredReport
) -> dict[str, Any]:
    """The result for other programs. Losses are in nats a token, those of `losses` by model."""
    return {
        "name": manifest.name,
        "folder": str(request.out.absolute()),
        "recipe": request.config.recipe,
        "passed": report.refusal is None,
        "refusal": report.refusal,
        "seconds": manifest.seconds,
        "steps": steps_taken(request.out),
        "scores": manifest.scores,
        "losses": report.losses,
        "summary": report.summary,
        "failures": report.failures,
        "answers": report.answers,
    }


def print_line(console: Console, text: str) -> None:
    """Print a sentence in the language of the terminal."""
    console.print(say(text), soft_wrap=True)
