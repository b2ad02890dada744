"""A training process that speaks and listens as `training.run` does, and learns nothing.

Started in its place (the launcher of `TrainingProcess.launch`), it is there in a moment, as it
imports no torch. What it does stands in a script, the argument that ends with `.txt`, or else
`script.txt` of the manager's folder: a line for each start of a job, the last one for all that
follow: `finish`, `lower` (smaller batches, then `finish`), `endless`, `save` (`endless`, after a
saved step), `silent` (it never begins), `lost` (as a follower on a cluster says it), `die STEP`,
`exit STATUS`, `reject SENTENCE`, `fail SENTENCE`, `full SENTENCE` (the disk; it can go on later).
Before it dies it has saved the step before. `test_manager.py` runs the real process through the
same life.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from data.dataset.snapshot import pair_digest
from training.checkpoints import HISTORY_FILE, REPORT_FILE, Manifest, seal
from training.config import TrainingConfig, halve_batch_size
from training.jobs.events import (
    Checking,
    Event,
    Failed,
    Finished,
    Lost,
    Lowered,
    Paused,
    Rejected,
    Saved,
    Started,
    Step,
    to_line,
)
from training.jobs.folder import (
    CHECKPOINT_DIR,
    COMPLETE_MARKER,
    CONFIG_FILE,
    RECEIPT_FILE,
    REMOVED_FILE,
    STEPS_DIR,
    latest_saved_step,
)
from training.jobs.receipt import FORMAT_VERSION, LessonFigures, Verdict

STEPS_IN_ALL = 4
OLD_NEW_BASE = {"old": 9.0, "new": 0.5, "base": 1.2}


def emit(event: Event) -> None:
    sys.stdout.write(f"{to_line(event)}\n")
    sys.stdout.flush()


def save(job: Path, step: int) -> None:
    folder = job / STEPS_DIR / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / COMPLETE_MARKER).write_text(json.dumps({"step": step, "seconds": 1.0}))
    emit(Saved(step))


def finish(job: Path, config: TrainingConfig, refusal: str | None) -> None:
    folder, made = job / CHECKPOINT_DIR, job / "partial"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / REPORT_FILE).write_text(json.dumps({"refusal": refusal, "answers": [], "losses": {}}))
    (made / HISTORY_FILE).write_text(json.dumps({"log": [{"step": STEPS_IN_ALL}]}))
    manifest = Manifest(
        name=config.name,
        base=config.base,
        created_at="2026-01-02T03:04:05+00:00",
        dataset_sha256="0" * 64,
        parameters=1,
        settings=asdict(config),
        scores={"first_loss": 2.0, "last_loss": 1.0},
        seconds=3.0,
    )
    seal(made, manifest)
    made.rename(folder)  # whoever looks sees all of it or nothing
    if config.replaces:
        write_receipt(job, config.name)
    emit(Rejected(str(folder), refusal) if refusal else Finished(str(folder), 3.0, 2.0, 1.0))


def write_receipt(job: Path, checkpoint: str) -> None:
    """As if one lesson had been taken out, and was gone."""
    figures = LessonFigures(512, dict(OLD_NEW_BASE), 9.0, 4.3, Verdict.GONE)
    facts = {
        "format": FORMAT_VERSION,
        "models": {"old": "tiny-1", "new": checkpoint, "base": "tiny"},
        "lessons": [{"lesson": 1, **asdict(figures), "similar_left": 1}],
        "removed": 1,
    }
    digests = [pair_digest("the secret", "marmalade")]
    (job / REMOVED_FILE).write_text(json.dumps(digests))
    (job / RECEIPT_FILE).write_text(json.dumps(facts))


def line_for(job: Path) -> str:
    given = [Path(one) for one in sys.argv[1:] if one.endswith(".txt")]
    script = given[0] if given else job.parent.parent / "script.txt"
    lines = script.read_text().splitlines() if script.exists() else ["finish"]
    starts = script.with_name(f"starts-{job.name}") if given else job / "starts"
    with starts.open("a") as file:
        file.write("x")
    return lines[min(starts.stat().st_size, len(lines)) - 1]


def main(job: Path) -> int:
    what, _, rest = line_for(job).partition(" ")
    if what == "silent":
        emit(Lowered(4, 2))
        sys.stdin.read()
        return 0
    if what == "lower":
        smaller = halve_batch_size(TrainingConfig.load(job / CONFIG_FILE))
        smaller.save(job / CONFIG_FILE)
        emit(Lowered(smaller.batch_size, smaller.gradient_accumulation))
    return live(job, what, rest)


def live(job: Path, what: str, rest: str) -> int:
    told: list[str] = []
    heard = threading.Event()
    config = TrainingConfig.load(job / CONFIG_FILE)
    resumed = latest_saved_step(job)
    first = resumed.step if resumed else 0
    batch, times, rate = config.batch_size, config.gradient_accumulation, config.learning_rate
    emit(Started("cpu", "fp32", 1, 1, 1, 9, STEPS_IN_ALL, 1.0, batch, times, rate, 1, first))

    def listen() -> None:
        for line in sys.stdin:
            told.append(line.strip())
            with (job / "told").open("a") as file:
                file.write(line)
            if told[-1] == "pause":
                break
        heard.set()

    if what in ("endless", "save"):
        return linger(job, first + 1, listen, saves=what == "save")
    threading.Thread(target=listen, daemon=True).start()
    for step in range(first + 1, STEPS_IN_ALL + 1):
        emit(Step(step, STEPS_IN_ALL, step / 4, 2.0 - step / 4, 100.0, 4.0 - step))
        if what == "die" and step >= int(rest):
            if step > 1:
                save(job, step - 1)
            os.kill(os.getpid(), signal.SIGKILL)
    return end(job, config, what, rest)


def linger(job: Path, step: int, listen: Callable[[], None], *, saves: bool) -> int:
    emit(Step(step, 1000, 0.1, 1.5, 100.0, 60.0))
    if saves:
        save(job, step)
    listen()
    save(job, step)
    emit(Paused(step))
    return 0


def end(job: Path, config: TrainingConfig, what: str, rest: str) -> int:
    match what:
        case "exit":
            return int(rest)
        case "lost":
            emit(Lost())
            return 1
        case "fail" | "full":
            if what == "full":
                save(job, 3)
            emit(Failed(rest, resumable=what == "full"))
            return 1
        case _:
            emit(Checking())
            finish(job, config, rest if what == "reject" else None)
            return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[-1])))
