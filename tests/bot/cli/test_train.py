"""`gpt2bot train`: what is refused, what is shown, and a run from its data to its folder.

Most runs here are scripted (tests/training/jobs/scripted_run.py); the last two are real, in the
command as people run it.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from bot.__main__ import main
from bot.cli.train.display import settings_table
from bot.cli.train.request import (
    HeldOutSplit,
    TrainRequest,
    hold_out,
    launch_command,
    load_interrupted,
    prepare,
)
from bot.cli.train.run import run_training
from bot.settings import SettingsError
from core.errors import StoreError
from core.records import Conversation, Pair
from data.formats.files import write_pairs
from model.chat_template import from_pair
from tests.bot.cli.command import ROOT, Command
from tests.model_folders import make_model_folder
from training.checkpoints import read_manifest, verify
from training.config import TrainingConfig
from training.errors import ChildFailed, TrainingError
from training.jobs.events import Started
from training.jobs.folder import (
    CHECKPOINT_DIR,
    CONFIG_FILE,
    DATASET_FILE,
    HELD_OUT_FILE,
    latest_saved_step,
)

SCRIPTED = (sys.executable, str(ROOT / "tests" / "training" / "jobs" / "scripted_run.py"))
SAYS = "Hello there my friend"
TALK = [from_pair(f"Question {n}?", f"Answer {n}.") for n in range(4)]

Gpt2bot = Callable[..., int]


@pytest.fixture
def gpt2bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gpt2bot:
    """Runs `gpt2bot train` here, in an empty folder; the exit status."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["gpt2bot", "train", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return call


@pytest.fixture
def order(tmp_path: Path) -> TrainRequest:
    """A scripted run of four steps."""
    config = TrainingConfig(name="mine", base="gpt2", base_name="gpt2", save_every_s=0.5)
    return TrainRequest(config, "talk.csv", tmp_path / "made" / "mine", SCRIPTED)


def script(order: TrainRequest, *lines: str) -> None:
    (order.out.parent.parent / "script.txt").write_text("\n".join(lines))


def data(conversations: Sequence[Conversation] = TALK) -> HeldOutSplit:
    return hold_out(conversations, 0)


class Screen(Console):
    """No terminal, but one that says when something stands on it."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        super().__init__(file=io.StringIO(), width=200, markup=False, highlight=False)

    @property
    def text(self) -> str:
        assert isinstance(self.file, io.StringIO)
        return self.file.getvalue()

    def print(self, *objects: object, **options: object) -> None:  # type: ignore[override]
        super().print(*objects, **options)  # type: ignore[arg-type]
        self._news.set()

    async def shows(self, text: str) -> None:
        async with asyncio.timeout(30):
            while text not in self.text:
                self._news.clear()
                await self._news.wait()


def rows_of(shown: str) -> dict[str, str]:
    """The settings in the table that a run shows."""
    lines = (line for line in shown.splitlines() if line.startswith("│"))
    return dict((cell.strip() for cell in line.split("│")[1:3]) for line in lines)


# --- data that cannot be used ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("nowhere.csv", None, "There is no file nowhere.csv: give a file (.xlsx, .csv, .jsonl, "),
        ("table.xlsx", b"PK", "table.xlsx is named .xlsx but is no Excel workbook"),
        ("a.txt", b"a", "a.txt is of no kind that is known: save it as .xlsx, .csv,"),
        ("a.jsonl", b'{"user": "a"}\n', "There is no conversation in a.jsonl. 1 row was left out"),
        ("a.jsonl", b"", "There is no conversation in a.jsonl."),
        ("a.json", b'[{"user": "a",\n "bot" "b"}]', "a.json is no JSON: there is a mistake in "),
        ("a.json", b'{"user": "a", "bot": "b"}', "a.json must be a list"),
        ("a.csv", b"user,bot\n", "There is no conversation in a.csv."),
        ("a.csv", "user,bot\ncafé,b\n".encode("latin-1"), "a.csv is neither UTF-8 nor"),
    ],
)
def test_data_that_cannot_be_used_is_one_sentence(
    name: str,
    content: bytes | None,
    expected: str,
    gpt2bot: Gpt2bot,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    assert gpt2bot("--dataset", name, "--out", "mine") == 2
    shown, said = capsys.readouterr()
    assert (shown, said.count("\n")) == ("", 1)
    assert said.startswith(expected)
    assert not Path("mine.job").exists()


@pytest.mark.parametrize(
    ("spec", "package"), [("chitchat", "chitchat_dataset"), ("chatterbot", "chatterbot_corpus")]
)
def test_a_public_data_set_that_is_not_installed(
    spec: str,
    package: str,
    gpt2bot: Gpt2bot,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert gpt2bot("--dataset", spec) == 2
    assert 'pip install "gpt2-discord-bot[starter]"' in capsys.readouterr().err


def test_data_as_spreadsheets_save_it(gpt2bot: Gpt2bot, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_bytes('\ufeffuser,bot\r\n"こんにちは, \nBot",hi\r\n'.encode())
    assert gpt2bot("--dataset", "a.csv", "--dry-run") == 0
    assert "1, and 0 held out" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["xlsx", "csv", "json", "jsonl", "yml"])
def test_every_kind_of_file_is_read(
    ending: str, gpt2bot: Gpt2bot, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = [Pair("a", "b", "talk", 1), Pair("c", "d", "talk", 2), Pair("e", "f")]
    write_pairs(talk, Path(f"a.{ending}"))
    assert gpt2bot("--dataset", f"a.{ending}", "--dry-run") == 0
    assert "2, and 0 held out" in capsys.readouterr().out


def test_wrong_rows_are_told_and_hold_nothing_up(
    gpt2bot: Gpt2bot, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.jsonl").write_text('{"user": "a", "bot": "b"}\nnothing\n{"user": 1}\n')
    assert gpt2bot("--dataset", "a.jsonl", "--dry-run") == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "2 rows were left out; the first is row 2: This line is no JSON. "
        "`gpt2bot dataset check a.jsonl` shows all of them.\n"
    )
    assert "1, and 0 held out" in out


# --- before a run ---------------------------------------------------------------------------------


def test_a_dry_run_shows_the_settings_and_leaves_nothing(
    gpt2bot: Gpt2bot, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [{"user": f"Question {n}", "bot": f"Answer {n}"} for n in range(120)]
    Path("a.json").write_text(json.dumps(pairs))
    options = "--dataset a.json --base gpt2 --out mine --limit 100 --batch-size 4 --accumulation 2"
    options += " --talk --method lora --precision fp16 --seed 7 --dry-run"
    assert gpt2bot(*options.split()) == 0
    table = rows_of(capsys.readouterr().out)
    assert table == {
        "data set": "a.json",
        "conversations": "98, and 2 held out",
        "base": "gpt2",
        "epochs": "3",
        "batch size": "4",
        "gradient accumulation": "2",
        "effective batch": "8",
        "learning rate": "0.0003",
        "warm-up": "10% of the steps",
        "longest example": "128 tokens",
        "loss on": "the bot's tokens",
        "method": "LoRA, rank 8",
        "seed": "7",
        "FP16": "yes (fp16)",
        "parameters": "about 124,439,808",
        "rows": "98",
        "steps": "39 on one device",
        "memory": table["memory"],
        "output": "mine",
    }
    assert [path.name for path in Path().iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("pairs", "options", "expected"),
    [
        (10, "", ("10, and 0 held out", "100", "18", "0.007", "LoRA, rank 32")),
        (
            10,
            "--epochs 2 --batch-size 9",
            ("10, and 0 held out", "2", "9", "0.007", "LoRA, rank 32"),
        ),
        (10, "--method full", ("10, and 0 held out", "100", "18", "0.0007", "full")),
        (10, "--talk", ("10, and 0 held out", "3", "8", "0.0002", "full")),
        (10, "--talk --method lora", ("10, and 0 held out", "3", "8", "0.002", "LoRA, rank 8")),
        (199, "", ("199, and 0 held out", "100", "18", "0.007", "LoRA, rank 32")),
        (200, "", ("196, and 4 held out", "3", "8", "0.0002", "full")),
        (200, "--taught", ("200, and 0 held out", "100", "18", "0.007", "LoRA, rank 32")),
        (301, "--taught", ("301, and 0 held out", "5", "16", "0.0002", "full")),
    ],
)
def test_few_pairs_are_taught_as_retrain_teaches_and_more_are_talk(
    pairs: int,
    options: str,
    expected: tuple[str, ...],
    gpt2bot: Gpt2bot,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_pairs([Pair(f"Question {n}?", f"Answer {n}.") for n in range(pairs)], Path("a.csv"))
    assert gpt2bot("--dataset", "a.csv", "--base", "tiny", "--dry-run", *options.split()) == 0
    table = rows_of(capsys.readouterr().out)
    names = ("conversations", "epochs", "batch size", "learning rate", "method")
    assert tuple(table[name] for name in names) == expected


def test_longer_conversations_are_talk_and_the_newest_answer_is_taught(
    gpt2bot: Gpt2bot, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs([Pair("a", "b", "talk", 1), Pair("c", "d", "talk", 2)], Path("talk.csv"))
    assert gpt2bot("--dataset", "talk.csv", "--base", "tiny", "--dry-run") == 0
    assert rows_of(capsys.readouterr().out)["epochs"] == "3"
    write_pairs([Pair("Red?", "No."), Pair("red", "Yes."), Pair("Blue?", "No.")], Path("a.csv"))
    assert gpt2bot("--dataset", "a.csv", "--base", "tiny", "--dry-run") == 0
    out = capsys.readouterr().out
    assert out.startswith("1 answer was left out: the file has a later one to the same question.\n")
    assert rows_of(out)["conversations"] == "2, and 0 held out"


def test_the_bots_process_stays_light(tmp_path: Path) -> None:
    code = (
        "import sys; from bot.cli.train.display import estimate_fields;"
        "from bot.cli.train.request import hold_out; from training.config import TrainingConfig;"
        "from training.sources import load_conversations;"
        "print(estimate_fields(TrainingConfig(name='a', base='gpt2'),"
        "hold_out(load_conversations('a.jsonl'), 0))); assert 'torch' not in sys.modules"
    )
    (tmp_path / "a.jsonl").write_text('{"user": "a", "bot": "b"}\n')
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=path, check=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--out a.csv", "a.csv already exists: choose another folder with --out."),
        ("--name a/b", "“a/b” cannot be the name of a checkpoint: leave out the slashes."),
        ("--accelerate-config none.yaml", "There is no file none.yaml (`accelerate config`"),
        ("--base nonsense", "There is no model “nonsense” here, and the Hugging Face Hub does not"),
        ("--base ./no/where", "There is no model “./no/where” here, and the Hugging Face Hub"),
        ("--base other.job", "other.job "),
        ("--out mine --resume", "There is no run to resume: mine.job does not exist."),
        ("--out other", "other.job exists, and is not the folder of a run: choose another --out."),
        (
            "--out broken --resume",
            f"{Path('broken.job', CONFIG_FILE)} cannot be read: delete broken.j",
        ),
        ("--out file/mine", "The folder file/mine.job could not be written: "),
    ],
)
def test_what_is_refused_in_one_sentence(
    options: str, expected: str, gpt2bot: Gpt2bot, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.csv").write_text("user,bot\na,b\n")
    Path("file").write_text("mine")
    Path("other.job").mkdir()
    Path("other.job", "precious.txt").write_text("mine")
    Path("broken.job").mkdir()
    Path("broken.job", CONFIG_FILE).write_text('{"name": ')
    data = "a.csv" if "--base" not in options else "never-read.csv"
    assert gpt2bot("--dataset", data, *options.split()) == 2
    shown, said = capsys.readouterr()
    assert (shown, said.count("\n")) == ("", 1)
    assert said.startswith(expected)
    assert Path("other.job", "precious.txt").read_text() == Path("file").read_text() == "mine"


@pytest.mark.parametrize(("count", "held_out"), [(49, 0), (50, 1), (1000, 20), (20_000, 200)])
def test_some_conversations_are_held_out(count: int, held_out: int) -> None:
    talk = [from_pair(str(n), "yes") for n in range(count)]
    one, again, other = hold_out(talk, 0), hold_out(talk, 0), hold_out(talk, 1)
    assert len(one.held_out) == held_out
    assert sorted([*one.learned, *one.held_out], key=repr) == sorted(talk, key=repr)
    assert one == again != other


def test_the_folder_of_a_job(order: TrainRequest) -> None:
    prepare(order, HeldOutSplit(TALK[1:], TALK[:1]))
    assert load_interrupted(order) == (order, HeldOutSplit(TALK[1:], TALK[:1]))
    prepare(order, data())
    assert not (order.job_dir / HELD_OUT_FILE).exists()
    assert [*json.loads((order.job_dir / DATASET_FILE).read_text().splitlines()[0])] == ["messages"]


def test_the_table_of_a_run_on_two_devices(order: TrainRequest) -> None:
    screen = Screen()
    started = Started("cuda", "bf16", 5, 3, 9, 1234, 70, 2.5, 4, 2, 1e-4, processes=2)
    screen.print(settings_table(order, data(), started))
    lines = ["2.5", "16", "0.0001", "no (bf16)", "2 x cuda", "5 (3 trained)", "9 (1,234 tokens)"]
    assert all(f"│ {text} " in screen.text for text in lines)


def test_the_launcher(tmp_path: Path) -> None:
    file = tmp_path / "accelerate.yaml"
    assert launch_command(None, None) == launch_command(None, 1) == ()
    assert launch_command(file, None)[-2:] == ("--config_file", str(file))
    assert launch_command(file, 2)[-2:] == ("--num_processes", "2")


# --- a run ----------------------------------------------------------------------------------------


async def test_a_run_in_lines(order: TrainRequest) -> None:
    prepare(order, data())
    screen = Screen()
    assert await run_training(order, data(), screen) == 0
    text = screen.text
    assert "step 1 of 4: loss 1.750, 100 tokens/s, 3 s left\n" in text
    assert "Checking the new model…\n" in text
    assert "Done in 3 s: training loss 2.00 to 1.00.\n" in text
    assert f"MODELS=mine={order.out}\n" in text
    assert verify(order.out).name == "mine"
    assert not order.job_dir.exists()


async def test_a_run_in_a_terminal_has_a_bar(order: TrainRequest) -> None:
    prepare(order, data())
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, markup=False, highlight=False)
    assert await run_training(order, data(), console) == 0
    assert "━" in file.getvalue()
    assert "step 1 of 4: loss" not in file.getvalue()


async def test_a_checkpoint_that_does_not_pass_is_kept(order: TrainRequest) -> None:
    script(order, "reject It says nothing.")
    prepare(order, data())
    screen = Screen()
    assert await run_training(order, data(), screen) == 3
    assert "It failed its checks, but it is kept. It says nothing.\n" in screen.text
    assert verify(order.out)


@pytest.mark.parametrize(
    ("lines", "status", "refusal"),
    [([], 0, None), (["reject It says nothing."], 3, "It says nothing.")],
)
async def test_the_result_as_one_object(
    lines: list[str],
    status: int,
    refusal: str | None,
    order: TrainRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script(order, *lines or ["finish"])
    prepare(order, data())
    screen = Screen()
    assert await run_training(order, data(), screen, as_json=True) == status
    assert "Done in 3 s" in screen.text
    assert json.loads(capsys.readouterr().out) == {
        "name": "mine",
        "folder": str(order.out),
        "recipe": "talk",
        "passed": not refusal,
        "refusal": refusal,
        "seconds": 3.0,
        "steps": 4,
        "scores": {"first_loss": 2.0, "last_loss": 1.0},
        "losses": {},
        "summary": None,
        "failures": [],
        "answers": [],
    }


async def test_a_run_that_fails_says_why(order: TrainRequest) -> None:
    script(order, "fail There is no such base.", "full The disk is full.", "exit 9")
    prepare(order, data())
    with pytest.raises(TrainingError, match=r"^There is no such base\.$"):
        await run_training(order, data(), Screen())
    kept = r" The same command with --resume continues after step 3\.$"
    with pytest.raises(TrainingError, match=r"^The disk is full\." + kept):
        await run_training(order, data(), Screen())
    with pytest.raises(ChildFailed, match=r"\(exit status 9\) .*log\.txt may say why\." + kept):
        await run_training(order, data(), Screen())
    assert not order.out.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
async def test_ctrl_c_keeps_what_was_learned_and_resume_goes_on(order: TrainRequest) -> None:
    script(order, "endless", "finish")
    prepare(order, data())
    screen = Screen()
    running = asyncio.create_task(run_training(order, data(), screen))
    await screen.shows("step 1 of 1000")
    os.kill(os.getpid(), signal.SIGINT)
    assert await running == 130
    assert "Stopped after step 1; the progress is saved." in screen.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    with pytest.raises(SettingsError, match=r"is saved in .*mine\.job: --resume continues it"):
        prepare(order, data())
    assert latest_saved_step(order.job_dir)
    again, kept = load_interrupted(order)
    screen = Screen()
    assert await run_training(again, kept, screen) == 0
    assert "step 1 of" not in screen.text
    assert "step 2 of 4" in screen.text


async def test_what_was_made_when_the_terminal_was_closed_is_taken(
    order: TrainRequest, tmp_path: Path
) -> None:
    prepare(order, data())
    screen = Screen()
    await run_training(order, data(), screen)
    order.job_dir.mkdir()
    order.config.save(order.job_dir / CONFIG_FILE)
    order.out.rename(order.job_dir / CHECKPOINT_DIR)
    with pytest.raises(SettingsError, match="--resume continues it"):
        prepare(order, data())
    assert await run_training(order, data(), Screen()) == 0
    assert verify(order.out)


async def test_a_place_that_was_taken_meanwhile_keeps_what_was_learned(
    order: TrainRequest,
) -> None:
    prepare(order, data())
    (order.out / "mine").mkdir(parents=True)
    with pytest.raises(StoreError, match="could not be written"):
        await run_training(order, data(), Screen())
    assert verify(order.job_dir / CHECKPOINT_DIR)


@pytest.mark.parametrize(
    ("recipe", "batch", "processes", "steps"),
    [
        pytest.param("talk", 2, 1, 4, marks=pytest.mark.slow),
        pytest.param("talk", 2, 2, 2, marks=pytest.mark.slow),
        ("taught", 4, 1, 4),
    ],
)
def test_a_real_run(recipe: str, batch: int, processes: int, steps: int, tmp_path: Path) -> None:
    """The model says what it is taught already, so it passes its checks."""
    make_model_folder(tmp_path / "base", says=SAYS)
    rows = "".join(f"question {n},{SAYS}\n" for n in range(8))
    (tmp_path / "pairs.csv").write_text(f"user,bot\n{rows}")
    options = f"--dataset pairs.csv --base base --out mine --name friend --{recipe} --epochs 1"
    options += f" --batch-size {batch} --learning-rate 1e-8 --threads 1 --precision fp32"
    options += f" --processes {processes} --json"
    done = Command(tmp_path)("train", *options.split(), COLUMNS="120")
    assert done.returncode == 0, done.stderr
    assert "2 x cpu" in done.stderr if processes == 2 else "2 x" not in done.stderr
    assert f"step {steps} of {steps}: " in done.stderr
    [told] = re.findall("^Asked as people ask: (.*)\\.$", done.stderr, re.MULTILINE)
    right = (
        r"(\d) of \1 taught answers known, 0 of \d+ near misses answered wrongly, talk as before"
    )
    assert re.fullmatch(right, told)
    assert "\nLoss on this data: " in done.stderr
    result = json.loads(done.stdout)
    assert (result["passed"], result["steps"]) == (True, steps)
    assert {one["after"] for one in result["answers"]} == {SAYS}
    assert (result["summary"], result["failures"]) == (told, [])
    assert set(result["losses"]) == {"general", "own"}
    manifest = read_manifest(tmp_path / "mine")
    assert (manifest.name, manifest.base_name, manifest.examples) == ("friend", "base", 8)
    assert manifest.settings["recipe"] == result["recipe"]
    assert not (tmp_path / "mine.job").exists()
