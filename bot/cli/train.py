"""`gpt2bot train`: a training run in the terminal, by the very process that /retrain starts.

Writes a job's folder, starts the run, shows its progress and moves what it made to its place.
Knows the terminal. Does not know tensors: the run is a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from bot.cli.interrupt import EXIT_INTERRUPTED
from bot.settings import SettingsError
from core.errors import write_error
from core.records import Conversation
from i18n.phrase import Phrase, join_phrases, phrase
from i18n.reader import say
from model.runners.device import available_cores
from training.checkpoints import (
    LOSS_CURVE_FILE,
    MANIFEST_FILE,
    Manifest,
    StoredReport,
    read_report,
    verify,
)
from training.config import TrainingConfig, total_steps
from training.errors import ChildFailed, TrainingError
from training.jobs.estimate import peak_memory_mb, shape_of
from training.jobs.events import (
    Checking,
    Event,
    Failed,
    Finished,
    Lowered,
    Paused,
    Rejected,
    Started,
    Step,
    format_duration,
)
from training.jobs.folder import (
    CHECKPOINT_DIR,
    CONFIG_FILE,
    DATASET_FILE,
    HELD_OUT_FILE,
    LOG_FILE,
    latest_saved_step,
)
from training.jobs.process import TrainingProcess, launcher_command
from training.run.mixing import mix_replay, read_conversations

HELD_OUT_SHARE, MIN_FOR_HELD_OUT, MAX_HELD_OUT = 0.02, 50, 200
"""Of at least so many conversations, this share (and no more than that) is not trained on."""
EXIT_REJECTED = 3
"""The exit status when the checkpoint is there but did not pass its checks."""
PROGRESS_LINES = 10
"""Lines of progress where no bar can be drawn."""
BAR_CHARS = 16
"""Characters of the bar: with what stands around it, a line of a usual terminal."""
FP16 = {
    "fp16": phrase("yes (fp16)"),
    "auto": phrase("where the device is best at it (auto)"),
}
MAX_ANSWERS_SHOWN = 3
"""Answers before and after that are shown at the end."""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What was asked for: the settings, the data's name, where the checkpoint is to go, and the
    launcher for several devices (() for one)."""

    config: TrainingConfig
    source: str
    out: Path
    launcher: tuple[str, ...] = ()

    @property
    def job_dir(self) -> Path:
        """The working folder, beside the place of the checkpoint."""
        return self.out.with_name(f"{self.out.name}.job")


@dataclass(frozen=True, slots=True)
class HeldOutSplit:
    """Conversations to learn, and those held out to measure what was learned."""

    learned: Sequence[Conversation]
    held_out: Sequence[Conversation]


def hold_out(conversations: Sequence[Conversation], seed: int) -> HeldOutSplit:
    """Hold some conversations out, by a shuffle that the seed decides."""
    shuffled = list(conversations)
    random.Random(seed).shuffle(shuffled)
    share = max(1, min(MAX_HELD_OUT, round(len(shuffled) * HELD_OUT_SHARE)))
    learned = len(shuffled) - (share if len(shuffled) >= MIN_FOR_HELD_OUT else 0)
    return HeldOutSplit(shuffled[:learned], shuffled[learned:])


def prepare(order: TrainRequest, data: HeldOutSplit) -> None:
    """Write the job's folder.

    Raises:
        SettingsError: something is in its place that must not be lost.
        StoreError: it could not be written; nothing is left behind.
    """
    _clear(order.job_dir)
    try:
        order.job_dir.mkdir(parents=True)
        order.config.save(order.job_dir / CONFIG_FILE)
        _write(order.job_dir / DATASET_FILE, data.learned)
        if data.held_out:
            _write(order.job_dir / HELD_OUT_FILE, data.held_out)
    except OSError as e:
        shutil.rmtree(order.job_dir, ignore_errors=True)
        raise write_error(phrase("The folder {folder}", folder=order.job_dir), e) from e


def _clear(job: Path) -> None:
    """Remove what a run left that had learned nothing yet."""
    if not job.exists():
        return
    if not (job / CONFIG_FILE).is_file():
        raise SettingsError(
            phrase(
                "{job} is in the way, and no folder of a run: choose another --out.",
                job=job,
            )
        )
    if latest_saved_step(job) or _has_checkpoint(job):
        raise SettingsError(
            phrase(
                "What an earlier run learned is kept in {job}: --resume goes on with it. To begin "
                "again, remove that folder.",
                job=job,
            )
        )
    shutil.rmtree(job, ignore_errors=True)


def _has_checkpoint(job: Path) -> bool:
    """Whether the run has made its checkpoint, and only the move to its place is missing."""
    return (job / CHECKPOINT_DIR / MANIFEST_FILE).is_file()


def _write(path: Path, conversations: Sequence[Conversation]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for turns in conversations:
            messages = [{"role": one.role.value, "content": one.content} for one in turns]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def load_interrupted(order: TrainRequest) -> tuple[TrainRequest, HeldOutSplit]:
    """The order of the job that was interrupted, with the settings that it began with; its data.

    Raises:
        SettingsError: there is no such job, or its settings cannot be read.
        CorruptData: its data cannot be read.
    """
    job = order.job_dir
    if not (job / CONFIG_FILE).is_file():
        raise SettingsError(phrase("There is nothing to go on with: {job} is not there.", job=job))
    try:
        config = TrainingConfig.load(job / CONFIG_FILE)
    except ValueError as e:
        raise SettingsError(
            phrase(
                "{file} cannot be read: remove {job} and begin again.",
                file=job / CONFIG_FILE,
                job=job,
            )
        ) from e
    learned, held_out = (
        read_conversations(path) if path.is_file() else []
        for path in (job / DATASET_FILE, job / HELD_OUT_FILE)
    )
    return replace(order, config=config), HeldOutSplit(learned, held_out)


Rows = list[tuple[str, str]]


def estimate_fields(config: TrainingConfig, data: HeldOutSplit) -> Rows:
    """What the run would tell once it has started, as far as it is known before."""
    rows = len(mix_replay(config, list(data.learned)))
    known = [
        (say("rows"), f"{rows:,}"),
        (say("steps"), say("{steps:,} on one device", steps=total_steps(config, rows))),
    ]
    shape = shape_of(config.base) if config.base else None
    if shape is not None:
        memory = peak_memory_mb(
            shape,
            batch_size=config.batch_size,
            max_length=config.max_length,
            method=config.method,
        )
        known = [
            (say("parameters"), say("about {count:,}", count=shape.parameters)),
            *known,
            (say("memory"), say("up to {size:.1f} GB, by estimate", size=memory / 1000)),
        ]
    return known


def started_fields(started: Started) -> Rows:
    """What only the run knows."""
    devices = f"{started.processes} x " if started.processes > 1 else ""
    return [
        (say("device"), f"{devices}{started.device}"),
        (
            say("parameters"),
            say("{all:,} ({trained:,} trained)", all=started.parameters, trained=started.trainable),
        ),
        (
            say("rows"),
            say("{rows:,} ({tokens:,} tokens)", rows=started.examples, tokens=started.tokens),
        ),
        (say("steps"), f"{started.steps:,}"),
    ]


def settings_table(
    order: TrainRequest, data: HeldOutSplit, started: Started | None = None
) -> Table:
    """Every setting of the run, as it `started` or will start."""
    config, now = order.config, started or order.config
    processes = started.processes if started else 1
    precision = started.precision if started else config.precision
    only_bot, lora = config.loss_on == "bot", config.method == "lora"
    rows: Rows = [
        (say("data set"), order.source),
        (
            say("conversations"),
            say(
                "{learned:,}, and {held_out:,} held out",
                learned=len(data.learned),
                held_out=len(data.held_out),
            ),
        ),
        (say("base"), config.base_name),
        (say("epochs"), f"{now.epochs:g}"),
        (say("batch size"), str(now.batch_size)),
        (say("gradient accumulation"), str(now.gradient_accumulation)),
        (say("effective batch"), str(now.batch_size * now.gradient_accumulation * processes)),
        (say("learning rate"), f"{now.learning_rate:g}"),
        (say("warm-up"), say("{share:.0%} of the steps", share=config.warmup_ratio)),
        (say("longest example"), say("{length} tokens", length=config.max_length)),
        (say("loss on"), say("the bot's tokens") if only_bot else say("all tokens")),
        (say("method"), say("LoRA, rank {rank}", rank=config.lora_rank) if lora else say("full")),
        (say("seed"), str(config.seed)),
        ("FP16", say(FP16.get(precision) or phrase("no ({precision})", precision=precision))),
        *(started_fields(started) if started else estimate_fields(config, data)),
        (say("output"), str(order.out)),
    ]
    table = Table(title=say("Training"))
    table.add_column(say("setting"))
    table.add_column(say("value"), overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


async def train(order: TrainRequest, data: HeldOutSplit, console: Console) -> int:
    """Run the job to its end; the exit status.

    Raises:
        TrainingError: it failed; the sentence says why.
    """
    if not _has_checkpoint(order.job_dir):
        last, status = await _run(order, data, console)
        kept = _resume_hint(order.job_dir)
        match last:
            case Finished() | Rejected():
                pass
            case Paused(step=step):
                print_line(
                    console,
                    phrase(
                        "Stopped after step {step}; what was learned is kept. The same command "
                        "with --resume goes on.",
                        step=step,
                    ),
                )
                return EXIT_INTERRUPTED
            case Failed(reason=reason):
                raise TrainingError(join_phrases([reason, *kept]))
            case _:
                reason = phrase(
                    "The training process ended (exit status {status}) before it had finished; "
                    "{log} may say why.",
                    status=status,
                    log=order.job_dir / LOG_FILE,
                )
                raise ChildFailed(join_phrases([reason, *kept]))
    return _publish_checkpoint(order, console)


def _resume_hint(job: Path) -> list[Phrase]:
    saved = latest_saved_step(job)
    if saved is None:
        return []
    step = saved.step
    return [phrase("The same command with --resume goes on after step {step}.", step=step)]


async def _run(
    order: TrainRequest, data: HeldOutSplit, console: Console
) -> tuple[Event | None, int | None]:
    """Start the process and show what it tells; its last word and its exit status."""
    last: Event | None = None
    interrupted = asyncio.Event()
    shown = _ProgressDisplay(order, data, console)
    async with TrainingProcess.launch(order.job_dir, order.launcher) as child:
        stopping = asyncio.create_task(_stop(interrupted, child, shown))
        with _on_interrupt(interrupted.set), shown:
            async for event in child.events():
                last = event
                shown.show(event)
        stopping.cancel()
    return last, child.exit_status


async def _stop(
    interrupted: asyncio.Event, child: TrainingProcess, shown: _ProgressDisplay
) -> None:
    """At the first Ctrl-C the run saves and ends; at the second it ends."""
    await interrupted.wait()
    interrupted.clear()
    child.send("pause")
    shown.tell(phrase("Saving what was learned (Ctrl-C again ends it at once)…"))
    await interrupted.wait()
    await child.kill()


@contextmanager
def _on_interrupt(called: Callable[[], None]) -> Iterator[None]:
    if sys.platform == "win32":  # asyncio hears no signals there: Ctrl-C ends all at once
        yield
        return
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for one in signals:
        loop.add_signal_handler(one, called)
    try:
        yield
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


def _publish_checkpoint(order: TrainRequest, console: Console) -> int:
    """Move the checkpoint to its place, and say what it is like."""
    made = order.job_dir / CHECKPOINT_DIR
    manifest = verify(made)
    try:
        made.rename(order.out)
    except OSError as e:
        raise write_error(phrase("The folder {folder}", folder=order.out), e) from e
    shutil.rmtree(order.job_dir, ignore_errors=True)
    report = read_report(order.out) or StoredReport()
    unseen = "held_out_loss" in manifest.scores
    for line in (*_compared(report, unseen=unseen), *_ending(order, manifest)):
        print_line(console, line)
    if report.refusal:
        refused = phrase(
            "It did not pass its checks, but it is kept. {refusal}", refusal=report.refusal
        )
        print_line(console, refused)
        return EXIT_REJECTED
    return 0


def _compared(report: StoredReport, *, unseen: bool) -> Iterator[str]:
    """Losses and answers; `unseen` if a part of the data was held out."""
    own = phrase("Held-out loss on this data") if unseen else phrase("Loss on this data")
    for kind, title in (("general", phrase("Held-out loss on talk in general")), ("own", own)):
        losses = report.losses.get(kind, {})
        before, now = losses.get("base"), losses.get("new")
        if now is not None and before is not None:
            yield phrase(
                "{title}: {before:.2f} before, {now:.2f} now.", title=title, before=before, now=now
            )
        elif now is not None:
            yield phrase("{title}: {now:.2f} now.", title=title, now=now)
    for one in report.answers[:MAX_ANSWERS_SHOWN]:
        yield phrase("“{asked}”", asked=one["prompt"])
        yield phrase("  before: {answer}", answer=one["before"] or "-")
        yield phrase("  now:    {answer}", answer=one["after"] or "-")


def _ending(order: TrainRequest, manifest: Manifest) -> Iterator[Phrase]:
    first, last = (manifest.scores[f"{name}_loss"] for name in ("first", "last"))
    folder = order.out.absolute()
    yield phrase(
        "Done in {time}: training loss {first:.2f} to {last:.2f}.",
        time=format_duration(manifest.seconds),
        first=first,
        last=last,
    )
    yield phrase(
        "The checkpoint is in {folder}, its loss curve in {curve}.",
        folder=order.out,
        curve=order.out / LOSS_CURVE_FILE,
    )
    yield phrase(
        "The bot can use it with the setting MODELS={name}={folder}",
        name=order.config.name,
        folder=folder,
    )
    yield phrase('and Python with AutoModelForCausalLM.from_pretrained("{folder}").', folder=folder)


def print_line(console: Console, text: str) -> None:
    """Print a line, in the language of the terminal."""
    console.print(say(text), soft_wrap=True)


class _ProgressDisplay:
    """The settings, then a bar in a terminal or lines in a file (or a notebook)."""

    def __init__(self, order: TrainRequest, data: HeldOutSplit, console: Console) -> None:
        self._order = order
        self._data = data
        self._console = console
        self._bar = Progress(
            TextColumn(say("step {task.completed:.0f} of {task.total:.0f}")),
            BarColumn(BAR_CHARS),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(say("getting ready"), total=1)
        self._part = -1

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        match event:
            case Started():
                self._console.print(settings_table(self._order, self._data, event))
                self._bar.update(self._task, total=event.steps, completed=event.resumed_from)
                self._part = -1
            case Step():
                self._step(event)
            case Lowered(batch_size=size, gradient_accumulation=times):
                self.tell(
                    phrase(
                        "Memory ran out: going on with batch size {size}, accumulation {times}.",
                        size=size,
                        times=times,
                    )
                )
            case Checking():
                self._bar.update(self._task, description=say("checking the new model"))
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
        self._bar.update(self._task, completed=event.step, description=say(text))
        part = PROGRESS_LINES * event.step // event.steps
        if not self._console.is_terminal and part > self._part:
            self._part = part
            self.tell(
                phrase(
                    "step {step} of {steps}: {text}", step=event.step, steps=event.steps, text=text
                )
            )

    def tell(self, text: str) -> None:
        print_line(self._console, text)


def launch_command(config: Path | None, processes: int | None) -> tuple[str, ...]:
    """`accelerate launch` with a file of `accelerate config`, or for so many processes; () for one.

    `--multi_gpu` starts as many processes on a CPU too; with `--cpu` it would be one.
    """
    if config is not None:
        return launcher_command(config) + (("--num_processes", str(processes)) if processes else ())
    if processes is None or processes == 1:
        return ()
    options = {
        "num_processes": processes,
        "num_machines": 1,
        "main_process_port": 0,  # any that is free
        "num_cpu_threads_per_process": max(1, available_cores() // processes),
        "mixed_precision": "no",  # the run's own settings decide
        "dynamo_backend": "no",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *words)
