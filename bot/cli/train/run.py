"""A training run in the terminal: starts the same process as /retrain, and shows its events."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from bot.cli.train.display import (
    ProgressDisplay,
    closing_lines,
    comparison_lines,
    print_line,
    result_record,
)
from bot.cli.train.request import HeldOutSplit, TrainRequest, has_checkpoint
from core.errors import write_error
from i18n.phrase import Phrase, join_phrases, phrase
from training.checkpoints import StoredReport, read_report, verify
from training.errors import ChildFailed, TrainingError
from training.jobs.events import Event, Failed, Finished, Paused, Rejected
from training.jobs.folder import CHECKPOINT_DIR, LOG_FILE, latest_saved_step
from training.jobs.process import TrainingProcess

EXIT_INTERRUPTED = 130
"""The exit status after Ctrl-C, as in shells (128 + SIGINT)."""
EXIT_REJECTED = 3
"""The exit status if the checkpoint did not pass its evaluation."""


async def run_training(
    request: TrainRequest, data: HeldOutSplit, console: Console, *, as_json: bool = False
) -> int:
    """Run the job to its end and return the exit status; `as_json` prints the result to stdout.

    Raises:
        TrainingError: it failed; the sentence says why.
    """
    if not has_checkpoint(request.job_dir):
        last, status = await _run(request, data, console)
        kept = _resume_hint(request.job_dir)
        match last:
            case Finished() | Rejected():
                pass
            case Paused(step=step):
                text = phrase(
                    "Stopped after step {step}; the progress is saved. The same command with "
                    "--resume continues.",
                    step=step,
                )
                print_line(console, text)
                return EXIT_INTERRUPTED
            case Failed(reason=reason):
                raise TrainingError(join_phrases([reason, *kept]))
            case _:
                reason = phrase(
                    "The training process ended (exit status {status}) before it had finished; "
                    "{log} may say why.",
                    status=status,
                    log=request.job_dir / LOG_FILE,
                )
                raise ChildFailed(join_phrases([reason, *kept]))
    return _publish_checkpoint(request, console, as_json=as_json)


def _resume_hint(job: Path) -> list[Phrase]:
    if (saved := latest_saved_step(job)) is None:
        return []
    return [phrase("The same command with --resume continues after step {step}.", step=saved.step)]


async def _run(
    request: TrainRequest, data: HeldOutSplit, console: Console
) -> tuple[Event | None, int | None]:
    """Start the process and show its events; returns the last one and the exit status."""
    last: Event | None = None
    interrupted = asyncio.Event()
    shown = ProgressDisplay(request, data, console)
    async with TrainingProcess.launch(request.job_dir, request.launcher) as child:
        stopping = asyncio.create_task(_stop(interrupted, child, shown))
        with _on_interrupt(interrupted.set), shown.bar:
            async for event in child.events():
                last = event
                shown.show(event)
        stopping.cancel()
    return last, child.exit_status


async def _stop(interrupted: asyncio.Event, child: TrainingProcess, shown: ProgressDisplay) -> None:
    """On the first Ctrl-C, save and end the run; on the second, kill it."""
    await interrupted.wait()
    interrupted.clear()
    child.send("pause")
    shown.tell(phrase("Saving the progress (Ctrl-C again ends the run at once)…"))
    await interrupted.wait()
    await child.kill()


@contextmanager
def _on_interrupt(called: Callable[[], None]) -> Iterator[None]:
    # asyncio has no signal handlers on Windows: there, Ctrl-C ends everything at once.
    signals = () if sys.platform == "win32" else (signal.SIGINT, signal.SIGTERM)
    loop = asyncio.get_running_loop()
    for one in signals:
        loop.add_signal_handler(one, called)
    try:
        yield
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


def _publish_checkpoint(request: TrainRequest, console: Console, *, as_json: bool) -> int:
    """Move the checkpoint to its place and print its evaluation; the exit status."""
    made = request.job_dir / CHECKPOINT_DIR
    manifest = verify(made)
    try:
        made.rename(request.out)
    except OSError as e:
        raise write_error(phrase("The folder {folder}", folder=request.out), e) from e
    shutil.rmtree(request.job_dir, ignore_errors=True)
    report = read_report(request.out) or StoredReport()
    unseen = "held_out_loss" in manifest.scores
    for line in (*comparison_lines(report, unseen=unseen), *closing_lines(request, manifest)):
        print_line(console, line)
    if as_json:
        print(json.dumps(result_record(request, manifest, report), ensure_ascii=False, indent=2))
    if report.refusal:
        refused = phrase("It failed its checks, but it is kept. {refusal}", refusal=report.refusal)
        print_line(console, refused)
        return EXIT_REJECTED
    return 0
