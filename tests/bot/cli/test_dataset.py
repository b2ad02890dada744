"""`gpt2bot dataset` as people run it: in a process of its own."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bot.cli.dataset.files import unused_path
from core.records import OPERATOR_AUTHOR_ID, Example, Pair, ReviewStatus
from data.formats.files import read_pairs, write_pairs
from data.storage.storage import Storage, open_storage
from tests.bot.cli.command import Command
from tests.bot.cli.test_main import assert_one_sentence
from tests.databases import put_empty_database

SERVER = "42"
PAIRS = (Pair("a", "b", "talk", 1, "faq"), Pair("c", "d", "talk", 2, "faq"), Pair("e", "f"))
WRONG = "user,bot\na,b\n,more\n\nalone,\n"


@pytest.fixture
def gpt2bot(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A file of three pairs."""
    write_pairs(PAIRS, tmp_path / "pairs.csv")
    return tmp_path / "pairs.csv"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The database of a bot that ran before."""
    (tmp_path / "var").mkdir()
    path = tmp_path / "var" / "gpt2bot.sqlite3"

    asyncio.run(put_empty_database(path))
    return path


async def examples_in(storage: Storage) -> list[Example]:
    return await storage.examples.all(int(SERVER))


def cells(shown: str) -> dict[str, str]:
    """The rows of a table."""
    rows = [line.split("│")[1:3] for line in shown.splitlines() if line.startswith("│")]
    return {name.strip(): value.strip() for name, value in rows}


@pytest.mark.parametrize("command", ["template", "check", "convert", "import", "export"])
def test_each_command_has_help(gpt2bot: Command, command: str) -> None:
    done = gpt2bot("dataset", command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"dataset {command} [OPTIONS]" in done.stdout


def test_the_template(gpt2bot: Command, tmp_path: Path) -> None:
    done = gpt2bot("dataset", "template", "new.xlsx")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("The template is in new.xlsx.")
    assert read_pairs(tmp_path / "new.xlsx").errors == ()
    assert_one_sentence(gpt2bot("dataset", "template", "new.xlsx"), "new.xlsx already exists")
    assert_one_sentence(gpt2bot("dataset", "template", "new.csv"), "name it new.xlsx")


def test_a_file_that_is_right(gpt2bot: Command, pairs: Path, tmp_path: Path) -> None:
    done = gpt2bot("dataset", "check", pairs.name)
    assert (done.returncode, done.stderr) == (0, "")
    assert cells(done.stdout) == {
        "rows": "3",
        "pairs": "3",
        "conversations": "1",
        "joined texts": "0",
        "invalid rows": "0",
    }
    assert done.stdout.endswith("Every row is valid.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]


def test_a_file_with_wrong_rows(gpt2bot: Command, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(WRONG)
    done = gpt2bot("dataset", "check", "pairs.csv")
    assert (done.returncode, done.stderr) == (1, "")
    assert "Joined, row 2: b more\n" in done.stdout
    assert "Invalid, row 5: The bot's text is missing.\n" in done.stdout
    assert done.stdout.endswith("are in pairs-problems.csv, with the reason beside each.\n")
    marked = (tmp_path / "pairs-problems.csv").read_text(encoding="utf-8-sig")
    assert "alone,,The bot's text is missing." in marked
    again = gpt2bot("dataset", "check", "pairs.csv")
    assert again.stdout.endswith("are in pairs-problems-2.csv, with the reason beside each.\n")
    assert (tmp_path / "pairs-problems.csv").read_text(encoding="utf-8-sig") == marked


def test_a_guess_is_told_and_not_imported_without_a_question(
    gpt2bot: Command, database: Path, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text("Frage,Antwort\nWo?,Hier.\n")
    done = gpt2bot("dataset", "check", "pairs.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert "There are no headings that I know, so this is a guess" in done.stdout
    assert done.stdout.endswith("“Frage” → “Antwort”\n“Wo?” → “Hier.”\n")
    done = gpt2bot("dataset", "import", "pairs.csv", "--server", SERVER)
    assert done.returncode == 2
    assert "Nothing was imported: write “user” and “bot” above" in done.stderr


def test_a_workbook_with_macros_is_checked(gpt2bot: Command, tmp_path: Path) -> None:
    write_pairs(PAIRS, tmp_path / "a.xlsx")
    (tmp_path / "a.xlsx").rename(tmp_path / "a.xlsm")
    assert cells(gpt2bot("dataset", "check", "a.xlsm").stdout)["pairs"] == "3"
    done = gpt2bot("dataset", "convert", "a.xlsm", "b.xlsm")
    assert_one_sentence(done, "b.xlsm is of no kind that is known: save it as .xlsx")


def test_of_many_problems_the_first_are_shown(gpt2bot: Command, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("no\n" * 1200)
    done = gpt2bot("dataset", "check", "pairs.jsonl")
    assert done.returncode == 1
    assert done.stdout.count("Invalid, row") == 5
    assert "… and 1,195 more.\n" in done.stdout
    assert done.stdout.endswith("are in pairs-problems.jsonl, with the reason beside each.\n")


def test_the_name_of_a_copy(tmp_path: Path) -> None:
    assert unused_path(tmp_path / "a.yml").name == "a-problems.jsonl"
    (tmp_path / "a-problems.xlsx").touch()
    assert unused_path(tmp_path / "a.xlsx").name == "a-problems-2.xlsx"
    assert unused_path(tmp_path / "a.xlsm").name == "a-problems.xlsm"


@pytest.mark.parametrize("ending", ["xlsx", "json", "jsonl", "yml"])
def test_a_file_becomes_one_of_another_kind(
    gpt2bot: Command, pairs: Path, tmp_path: Path, ending: str
) -> None:
    done = gpt2bot("dataset", "convert", pairs.name, f"out.{ending}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Pairs written to out.{ending}: 3.\n"
    assert read_pairs(tmp_path / f"out.{ending}").pairs == PAIRS


def test_wrong_rows_are_told_and_left_out(gpt2bot: Command, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(WRONG)
    done = gpt2bot("dataset", "convert", "pairs.csv", "out.json")
    assert done.returncode == 0
    assert done.stdout == (
        "Skipped, row 5: The bot's text is missing.\nPairs written to out.json: 1.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "none.csv"), "none.csv cannot be opened: No such file"),
        (("check", "pairs.exe"), "pairs.exe is of no kind that is known"),
        (("convert", "pairs.csv", "taken.json"), "taken.json already exists: choose another"),
        (("convert", "pairs.csv", "out.txt"), "out.txt is of no kind that is known"),
        (("convert", "empty.jsonl", "out.csv"), "empty.jsonl contains no pairs."),
        (("convert", "pairs.csv", "no/out.csv"), "There is no folder no: create it first."),
        (("import", "pairs.csv", "--server", SERVER), "the bot creates it when it starts."),
        (("export", "out.csv", "--server", SERVER), "the bot creates it when it starts."),
    ],
)
def test_what_is_refused(
    gpt2bot: Command, pairs: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "pairs.exe").write_text("MZ")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "taken.json").write_text("mine")
    there = set(tmp_path.iterdir())
    assert_one_sentence(gpt2bot("dataset", *arguments), said)
    assert set(tmp_path.iterdir()) == there
    assert (tmp_path / "taken.json").read_text() == "mine"


def test_a_server_is_a_number(gpt2bot: Command, pairs: Path) -> None:
    assert gpt2bot("dataset", "import", pairs.name, "--server", "0").returncode == 2


async def test_import_and_export_while_the_bot_has_the_database(
    gpt2bot: Command, pairs: Path, database: Path, tmp_path: Path
) -> None:
    async with open_storage(database) as storage:
        done = await asyncio.to_thread(gpt2bot, "dataset", "import", pairs.name, "--server", SERVER)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == ("New pairs: 3 of 3. Examples of server 42 now: 3.\n")
        examples = await examples_in(storage)
        assert [(one.user, one.source, one.author_id) for one in examples] == [
            ("a", "faq", OPERATOR_AUTHOR_ID),
            ("c", "faq", OPERATOR_AUTHOR_ID),
            ("e", "import", OPERATOR_AUTHOR_ID),
        ]
        await storage.examples.set_review(int(SERVER), examples[2].id, ReviewStatus.WAITING)
        done = await asyncio.to_thread(gpt2bot, "dataset", "export", "o.xlsx", "--server", SERVER)
        assert done.stdout == "Pairs written to o.xlsx: 2.\n"
        assert read_pairs(tmp_path / "o.xlsx").pairs == PAIRS[:2]
    again = await asyncio.to_thread(gpt2bot, "dataset", "import", pairs.name, "--server", SERVER)
    assert again.stdout.startswith("New pairs: 0 of 3.")


def test_a_server_without_examples(gpt2bot: Command, database: Path, tmp_path: Path) -> None:
    done = gpt2bot("dataset", "export", "out.csv", "--server", SERVER)
    assert_one_sentence(done, "Server 42 has no examples that may be learned now.")
    assert [path.name for path in tmp_path.iterdir()] == ["var"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes with names, and signals")
def test_ctrl_c_leaves_nothing(gpt2bot: Command, tmp_path: Path) -> None:
    """The partial file is a pipe here: once something can be read, the writing has begun."""
    write_pairs([Pair(f"q{n}", "a" * 2000) for n in range(100)], tmp_path / "pairs.jsonl")
    os.mkfifo(tmp_path / "out.csv.partial")
    pipe = os.open(tmp_path / "out.csv.partial", os.O_RDWR)
    with subprocess.Popen(
        [sys.executable, "-m", "bot", "dataset", "convert", "pairs.jsonl", "out.csv"],
        cwd=tmp_path,
        env=gpt2bot.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert select.select([pipe], [], [], 60)[0]
        os.kill(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    os.close(pipe)
    assert (process.returncode, out, errors) == (130, b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]
