"""`gpt2bot train`: a training run in the terminal, by the very process that /retrain starts.

Writes a job's folder, starts the run, shows its progress and moves what it made to its place.
Knows the terminal. Does not know tensors: the run is a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from bot.settings import SettingsError
from data.errors import not_written
from data.schema import Conversation
from training.checkpoints import LOSS_CURVE, Report, read_report, verify
from training.child import Child
from training.config import TrainingConfig
from training.errors import ChildFailed, TrainingError
from training.jobs import CONFIG, DATASET, HELD_OUT, LOG, saved_step
from training.progress import (
    Checking,
    Event,
    Failed,
    Finished,
    Lowered,
    Paused,
    Rejected,
    Started,
    Step,
    duration,
)

HELD_OUT_SHARE, LEAST_FOR_IT, MOST_HELD_OUT = 0.02, 50, 200
"""Of at least so many conversations, this share (and no more than that) is not trained on."""
REJECTED = 3
"""The exit status when the checkpoint is there but did not pass its checks."""
INTERRUPTED = 130
PARTS = 10
"""Lines of progress where no bar can be drawn."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for: the settings, the data's name, where the checkpoint is to go, and the
    launcher for several devices (() for one)."""

    config: TrainingConfig
    source: str
    out: Path
    launcher: tuple[str, ...] = ()

    @property
    def job(self) -> Path:
        """The working folder, beside the place of the checkpoint."""
        return self.out.with_name(f"{self.out.name}.job")


def prepare(order: Order, conversations: Sequence[Conversation]) -> int:
    """Write the job's folder; how many conversations were held out.

    Raises:
        StoreError: it could not be written.
    """
    shuffled = list(conversations)
    random.Random(order.config.seed).shuffle(shuffled)
    count = min(MOST_HELD_OUT, round(len(shuffled) * HELD_OUT_SHARE))
    count = max(1, count) if len(shuffled) >= LEAST_FOR_IT else 0
    try:
        shutil.rmtree(order.job, ignore_errors=True)
        order.job.mkdir(parents=True)
        order.config.save(order.job / CONFIG)
        _write(order.job / DATASET, shuffled[count:])
        if count:
            _write(order.job / HELD_OUT, shuffled[:count])
    except OSError as e:
        raise not_written(f"The folder {order.job}", e) from e
    return count


def _write(path: Path, conversations: Sequence[Conversation]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for turns in conversations:
            messages = [{"role": one.role.value, "content": one.content} for one in turns]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def resumed(order: Order) -> Order:
    """The order of the job that was interrupted, with the settings that it began with.

    Raises:
        SettingsError: there is no such job.
    """
    if not (order.job / CONFIG).is_file():
        raise SettingsError(f"There is nothing to go on with: {order.job} is not there.")
    return replace(order, config=TrainingConfig.load(order.job / CONFIG))


def settings_table(order: Order, conversations: int | None, started: Started | None) -> Table:
    """Every setting of the run; what only the run knows is there once it has started."""
    config = order.config
    batch = config.batch_size * config.gradient_accumulation
    rows: list[tuple[str, object]] = [
        ("data set", order.source + (f", {conversations} conversations" if conversations else "")),
        ("base", config.base_name),
        ("epochs", f"{started.epochs if started else config.epochs:g}"),
        ("batch size", started.batch_size if started else config.batch_size),
        ("gradient accumulation", config.gradient_accumulation),
        ("effective batch", batch * (started.processes if started else 1)),
        ("learning rate", f"{config.learning_rate:g}"),
        ("warm-up", f"{config.warmup_ratio:.0%} of the steps"),
        ("longest example", f"{config.max_length} tokens"),
        ("loss on", "the bot's tokens" if config.loss_on == "bot" else "all tokens"),
        ("method", "LoRA" if config.method == "lora" else "full"),
        ("seed", config.seed),
    ]
    precision = started.precision if started else config.precision
    rows.append(("FP16", f"{'yes' if precision == 'fp16' else 'no'} ({precision})"))
    if started:
        devices = f"{started.processes} x " if started.processes > 1 else ""
        rows += [
            ("device", f"{devices}{started.device}"),
            ("parameters", f"{started.parameters:,} ({started.trainable:,} trained)"),
            ("rows", f"{started.examples:,} ({started.tokens:,} tokens)"),
            ("steps", f"{started.steps:,}"),
        ]
    rows.append(("output", order.out))
    table = Table("setting", "value", title="Training")
    for name, value in rows:
        table.add_row(name, str(value))
    return table


async def train(order: Order, conversations: int | None, console: Console) -> int:
    """Run the job to its end; the exit status.

    Raises:
        TrainingError: it failed; the sentence says why.
    """
    shown = _Shown(order, conversations, console)
    last: Event | None = None
    stop = asyncio.Event()
    _on_interrupt(stop)
    async with Child.started(order.job, order.launcher) as child:
        pausing = asyncio.create_task(_pause(stop, child))
        with shown:
            async for event in child.events():
                last = event
                shown.show(event)
        pausing.cancel()
    match last:
        case Finished() | Rejected():
            return _take(order, last, console)
        case Paused(step=step):
            console.print(
                f"Stopped after step {step}; what was learned is kept. The same command with "
                "--resume goes on.",
                highlight=False,
            )
            return INTERRUPTED
        case Failed(reason=reason):
            raise TrainingError(reason)
        case _:
            raise ChildFailed(_ended(order, child.status))


def _on_interrupt(stop: asyncio.Event) -> None:
    import signal

    for name in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C ends all at once there
            asyncio.get_running_loop().add_signal_handler(name, stop.set)


async def _pause(stop: asyncio.Event, child: Child) -> None:
    await stop.wait()
    child.tell("pause")


def _ended(order: Order, status: int | None) -> str:
    saved = saved_step(order.job)
    kept = f" --resume goes on after step {saved.step}." if saved else ""
    return (
        f"The training process ended (exit status {status}) before it had finished; "
        f"{order.job / LOG} may say why.{kept}"
    )


def _take(order: Order, last: Finished | Rejected, console: Console) -> int:
    """Move the checkpoint to its place, and say what it is like."""
    verify(Path(last.checkpoint))
    try:
        Path(last.checkpoint).replace(order.out)
    except OSError as e:
        raise not_written(f"The folder {order.out}", e) from e
    shutil.rmtree(order.job, ignore_errors=True)
    report = read_report(order.out)
    if report is not None:
        for line in _lines(report):
            console.print(line, highlight=False, markup=False)
    say = console.print
    say(f"The checkpoint is in {order.out}, its loss curve in {order.out / LOSS_CURVE}.",
        highlight=False, soft_wrap=True)  # fmt: skip
    say(f"The bot can use it: MODELS={order.config.name}={order.out.absolute()}",
        highlight=False, soft_wrap=True)  # fmt: skip
    if isinstance(last, Rejected):
        say(f"It did not pass its checks. {last.reason}", highlight=False, markup=False)
        return REJECTED
    say(f"Done in {duration(last.seconds)}: loss {last.first_loss:.2f} to {last.last_loss:.2f}.",
        highlight=False)  # fmt: skip
    return 0


def _lines(report: Report) -> list[str]:
    lines = []
    for kind, title in (("general", "talk in general"), ("own", "this data")):
        losses = report.losses.get(kind, {})
        if losses.get("new") is not None:
            base = losses.get("base")
            before = f"{base:.2f} to " if base is not None else ""
            lines.append(f"Loss on {title}: {before}{losses['new']:.2f}")
    for one in report.answers[:3]:
        lines.append(f"“{one['prompt']}”: {one['before'] or '-'} -> {one['after']}")
    return lines


class _Shown:
    """The settings, then a bar in a terminal or lines in a file (or a notebook)."""

    def __init__(self, order: Order, conversations: int | None, console: Console) -> None:
        self._order = order
        self._conversations = conversations
        self._console = console
        self._bar = Progress(
            TextColumn("step {task.completed:.0f} of {task.total:.0f}"),
            BarColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("getting ready", total=1)
        self._part = -1

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        match event:
            case Started():
                table = settings_table(self._order, self._conversations, event)
                self._console.print(table)
                self._bar.update(self._task, total=event.steps, completed=event.resumed_from)
            case Step():
                self._step(event)
            case Lowered(batch_size=size, gradient_accumulation=times):
                self._say(f"Memory ran out: going on with batch size {size}, accumulation {times}.")
            case Checking():
                self._say("Checking the new model…")
            case _:
                pass

    def _step(self, event: Step) -> None:
        text = (
            f"loss {event.loss:.3f}, {event.tokens_per_s:,.0f} tokens/s, "
            f"about {duration(event.seconds_left)} left"
        )
        self._bar.update(self._task, completed=event.step, description=text)
        part = PARTS * event.step // event.steps
        if not self._console.is_terminal and part > self._part:
            self._part = part
            self._say(f"step {event.step} of {event.steps}: {text}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)


def launcher(config: Path | None, processes: int | None, device: str | None) -> tuple[str, ...]:
    """`accelerate launch` with a file of `accelerate config`, or for so many processes; () for one.

    `device` "cpu" keeps them off GPUs.
    """
    if config is None and not processes:
        return ()
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    if config is not None:
        command += ["--config_file", str(config)]
    if processes:
        command += ["--num_processes", str(processes)]
    if device == "cpu":
        command += ["--cpu"]
    if config is None:
        command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        if (processes or 1) > 1:
            command += ["--multi_gpu"] if device != "cpu" else []
        command += ["--num_cpu_threads_per_process", str(max(1, (os.cpu_count() or 1) // 2))]
    return tuple(command)
