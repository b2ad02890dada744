"""Every command that a document shows is run: here, by another test, by `.ci/run`; or says why not.

A command that is new in a document belongs into one of the four tables. What is a name and no
command (`gpt2bot run` in a sentence) counts too: people type what they read.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.records import NewExample, Pair
from data.formats.files import write_pairs
from data.storage.storage import open_storage
from tests.bot.cli.command import Command
from tests.builds import put_built_tiny
from tests.test_docs import ROOT, names_in

DOCUMENTS = [
    *(page for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md"),
    *(page for page in ROOT.glob("docs/*.md") if not page.name.startswith("commands.")),
    *(ROOT / "model" / name / "README.md" for name in ("tiny", "tiny_ja")),
]
PROGRAMS = {
    *("uv", "pip", "python", "python3", "gpt2bot", "pytest", "ruff", "mypy", "lint-imports"),
    *("mkdocs", "pre-commit", "accelerate", "cp", "cd", "chmod", "bash", "git", "ssh", "install"),
    *("docker", "pipx", "sudo", "systemctl", "systemd-analyze", "journalctl", "useradd"),
}
NAMES = {"uv", "uv run", "uv sync", "pip", "pip install", "gpt2bot", "gpt2bot dataset", "docker"}
"""Mentioned as what they are, not to be typed like that."""

RUN = {
    "cp .env.example .env": "cp .env.example .env",
    "gpt2bot --version": "gpt2bot --version",
    "gpt2bot chat --model tiny “Hello, how are you?”": (
        'gpt2bot chat --model tiny "Hello, how are you?"'
    ),
    "gpt2bot chat --model tiny-ja “こんにちは”": 'gpt2bot chat --model tiny-ja "こんにちは"',
    "gpt2bot doctor": "gpt2bot doctor",
    "gpt2bot dataset template FILE.xlsx": "gpt2bot dataset template new.xlsx",
    "python -m scripts.messages": "python -m scripts.messages",
    "gpt2bot dataset template": "gpt2bot dataset template pairs-to-fill-in.xlsx",
    "gpt2bot dataset check FILE": "gpt2bot dataset check pairs.xlsx",
    "gpt2bot dataset convert FILE OUT": "gpt2bot dataset convert pairs.xlsx new.jsonl",
    "gpt2bot dataset import FILE --server ID": "gpt2bot dataset import pairs.xlsx --server 5",
    "gpt2bot dataset export OUT --server ID": "gpt2bot dataset export new.csv --server 42",
    "gpt2bot backup": "gpt2bot backup",
    "gpt2bot backup FILE": "gpt2bot backup copy.sqlite3",
    "gpt2bot restore FILE": "gpt2bot restore backup.sqlite3",
    "python -c “import secrets; print(secrets.token_urlsafe(32))”": (
        'python -c "import secrets; print(secrets.token_urlsafe(32))"'
    ),
}
"""What is shown, and how it is typed here: with files that there are, and shorter."""
SLOW = {
    "python -m scripts.trace_message": "python -m scripts.trace_message",
    "python -m benchmarks.importing": "python -m benchmarks.importing --rows 300",
    "python -m benchmarks.tokens --tokenizer FOLDER": (
        f"python -m benchmarks.tokens --tokenizer {ROOT / 'model' / 'tiny'}"
    ),
    "gpt2bot train --dataset chitchat --base tiny --limit 200 --epochs 1 --out mine": (
        "gpt2bot train --dataset chitchat --base tiny --limit 200 --epochs 1 --out mine"
    ),
    "gpt2bot train --dataset FILE": (
        "gpt2bot train --dataset pairs.xlsx --base tiny --talk --epochs 1"
    ),
}
STATUS = {"gpt2bot doctor": 1}
"""Exit statuses other than 0: there is no token."""

CI = ".ci/run"
GENERATION = "tests/test_benchmarks.py::test_the_generation_benchmark_prints_one_object"
TRAINING = "tests/test_benchmarks.py::test_the_training_benchmark_prints_one_object"
CROWD = "tests/test_benchmarks.py::test_a_crowd_loses_nothing"
ELSEWHERE = {
    "gpt2bot eval --server ID": (
        "tests/bot/cli/test_eval.py::test_one_that_was_passed_and_is_failed_now"
    ),
    "gpt2bot run": "tests/bot/cli/doctor/test_command.py::test_the_bot_looks_while_it_starts",
    "gpt2bot demo": (
        "tests/bot/cli/test_demo.py::test_a_visitor_chats_and_ctrl_c_leaves_nothing_behind"
    ),
    "gpt2bot demo --no-browser --port 8800": (
        "tests/bot/cli/test_demo.py::test_a_visitor_chats_and_ctrl_c_leaves_nothing_behind"
    ),
    "gpt2bot demo --language ja": "tests/bot/cli/test_demo.py::test_the_demo_in_japanese",
    "gpt2bot chat": "tests/bot/cli/test_main.py::test_a_conversation_until_quit",
    "gpt2bot chat hello": (
        "tests/bot/cli/test_main.py::test_tiny_stands_in_for_a_default_model_that_cannot_be_had"
    ),
    "gpt2bot doctor --json": (
        "tests/bot/cli/doctor/test_command.py::test_all_that_is_wrong_is_told_at_once"
    ),
    "gpt2bot cluster up": (
        "tests/bot/cli/test_cluster.py::test_a_cluster_comes_up_is_shown_and_ends_with_ctrl_c"
    ),
    "gpt2bot cluster status": (
        "tests/bot/cli/test_cluster.py::test_a_cluster_comes_up_is_shown_and_ends_with_ctrl_c"
    ),
    "python -m benchmarks.cluster": (
        "tests/test_benchmarks.py::test_the_cluster_benchmark_prints_one_object"
    ),
    "python -m benchmarks.cluster --parts pipe": (
        "tests/test_benchmarks.py::test_the_cluster_benchmark_prints_one_object"
    ),
    "gpt2bot setup": "tests/bot/cli/setup/test_setup.py::test_a_newcomer",
    "gpt2bot setup --yes --token-file FILE --language en --model tiny --home var": (
        "tests/bot/cli/setup/test_setup.py::test_changed_lines_are_shown_and_the_others_stay"
    ),
    "gpt2bot health": "tests/bot/ops/test_http.py::TestCommand::test_it_asks_the_running_bot",
    "gpt2bot train": "tests/bot/cli/test_train.py::test_a_real_run",
    "gpt2bot train --base tiny-ja --dataset pairs.xlsx": (
        "tests/bot/cli/test_train.py::test_a_real_run"
    ),
    "gpt2bot train …": "tests/bot/cli/test_train.py::test_a_real_run",
    "python -m training.run JOB_DIR": "tests/bot/cli/test_train.py::test_a_real_run",
    "python -m benchmarks.generation": GENERATION,
    "python -m benchmarks.generation --rounds 1": GENERATION,
    "python -m benchmarks.generation --rounds 3": GENERATION,
    "python -m benchmarks.generation --rounds 2 --model-size gpt2-medium": GENERATION,
    "python -m benchmarks.generation --model-size tiny --streams 1 --rounds 3 --peers generate": (
        GENERATION
    ),
    "python -m benchmarks.generation --rounds 2 --models 2 --arrivals 16 --adapters 300": (
        GENERATION
    ),
    "python -m benchmarks.generation --outliers": (
        "tests/test_benchmarks.py::test_what_int8_costs_is_within_one_percent_on_every_twin"
    ),
    "python -m benchmarks.generation --threads 1 --soak 3600 --adapters 50": (
        "tests/test_benchmarks.py::test_a_soak_shows_speed_and_memory_over_time"
    ),
    "python -m benchmarks.training": TRAINING,
    "python -m benchmarks.talk --language ja --models model/tiny_ja --sheet sheet.csv": (
        "tests/test_benchmarks.py::test_small_talk_is_rated_blind"
    ),
    "python -m benchmarks.knowing": ("tests/test_benchmarks.py::test_what_is_known_is_measured"),
    "python -m benchmarks.judgement --parts duel,canary": (
        "tests/test_benchmarks.py::test_what_people_judge_is_simulated"
    ),
    "python -m benchmarks.judgement.taste": "tests/test_benchmarks.py::test_a_taste_is_measured",
    "python -m benchmarks.web": (
        "tests/test_benchmarks.py::test_the_benchmark_of_the_page_prints_one_object"
    ),
    "python -m benchmarks.store": (
        "tests/test_benchmarks.py::test_the_store_benchmark_prints_one_object"
    ),
    "python -m benchmarks.judgement.forgetting": (
        "tests/test_benchmarks.py::test_what_was_forgotten_is_measured"
    ),
    "python -m benchmarks.bombs": "tests/test_benchmarks.py::test_a_bomb_is_measured",
    "python -m benchmarks.load": CROWD,
    "python -m benchmarks.load --minutes 2.5": CROWD,
    "python -m benchmarks.load --rest --channels 50 --guilds 50 --pause 0.5 --rate 1980": CROWD,
    "pip install uv": CI,
    "pytest": CI,
    "pytest -m slow": CI,
    "pytest -n 3 --dist loadfile --no-loadscope-reorder -m cluster": CI,
    "ruff check .": CI,
    "ruff format --check .": CI,
    "mypy": CI,
    "lint-imports": CI,
    "mkdocs build --strict": CI,
}
"""What is shown, and which test (with smaller figures, where it takes long) or script runs it."""

ROOT_USER = "it changes the system, as its administrator"
DOCKER = "there is no Docker in the tests"
INDEX = "it fetches packages from an index that the tests cannot count on"
PAGE = "tests/browser/test_demo_page.py"
ITSELF = "it would run this test, and all others"
NOT_HERE = {
    "bash .ci/run": ITSELF,
    "pytest NAME": ITSELF,
    "pytest -m slow tests/test_notebook.py": ITSELF,
    "uv run --with jupyter jupyter lab notebooks/gpt2_step_by_step.ipynb": (
        "it never ends; the notebook is run by tests/test_notebook.py"
    ),
    "pytest -m slow NAME": ITSELF,
    "pytest --durations=25": ITSELF,
    (
        "uv run --with jupyter jupyter nbconvert --to html --execute "
        "notebooks/gpt2_step_by_step.ipynb --output-dir var"
    ): "it fetches Jupyter; tests/test_notebook.py runs the same cells with the same kernel",
    "uv build --wheel": "it fetches hatchling; tests/test_packaging.py builds the wheel with it",
    "python -m training.tools.paraphrases --language en --talk FILES": (
        "it takes minutes and writes over the weights; "
        "tests/data/questions/test_rewordings.py::test_a_few_wordings_teach_it_to_tell_others_apart"
    ),
    "python -m scripts.reference": (
        "it writes into the clone; tests/test_reference.py holds the pages to the same functions"
    ),
    "python -m scripts.notebook": (
        "it writes into the clone; tests/test_notebook.py runs the notebook by the same function"
    ),
    "python3 -m pip install uv": INDEX,
    "python3 -m uv run gpt2bot demo": "it is `uv run gpt2bot demo`, where uv is not on the path",
    "pipx install uv": INDEX,
    "mkdocs serve": "it never ends; `mkdocs build` is the same without the server",
    "pre-commit install": "it would change the clone of whoever runs the tests",
    "python -m benchmarks.newcomer": "it clones the project and fetches all packages",
    "python -m scripts.recording": f"it makes a film; {PAGE} walks the same way",
    "python -m scripts.screenshots": f"it makes pictures; {PAGE} walks the same way",
    "accelerate config": "it asks its questions of a person",
    "python -m training.tools.tiny --data PATH --out model/tiny": (
        "it takes an hour, and a corpus that is not in any package"
    ),
    "python -m training.tools.tiny --language ja --data FILES --out model/tiny_ja": (
        "it takes an hour; tests/training/test_tiny.py takes one step, from a file of its own"
    ),
    "docker compose up -d": DOCKER,
    "docker compose up -d --build": DOCKER,
    "docker compose -f compose.yaml -f compose.cluster.yaml up -d --build --scale node=2": DOCKER,
    "install -m 0600 /dev/stdin ~/.ray/auth_token": "it writes a token into the user's home",
    "docker compose stop": DOCKER,
    "docker compose logs -f": DOCKER,
    "docker compose exec gpt2bot gpt2bot backup": DOCKER,
    "docker compose run --rm gpt2bot restore /data/backups/gpt2bot-TIME.sqlite3": DOCKER,
    "cd /var/lib/gpt2bot": ROOT_USER,
    "chmod 600 .env": "it is of no use here: there is no secret",
    "chmod 700 var": "it is of no use here: there is no secret",
    "cp deploy/gpt2bot.service /etc/systemd/system/": ROOT_USER,
    "install -d -o gpt2bot -g gpt2bot -m 0700 /var/lib/gpt2bot": ROOT_USER,
    "install -o gpt2bot -g gpt2bot -m 0600 .env.example /var/lib/gpt2bot/.env": ROOT_USER,
    "useradd --system --home-dir /var/lib/gpt2bot --shell /usr/sbin/nologin gpt2bot": ROOT_USER,
    "systemctl daemon-reload": ROOT_USER,
    "systemctl enable --now gpt2bot": ROOT_USER,
    "sudo systemctl start gpt2bot": ROOT_USER,
    "journalctl -u gpt2bot -f": "there is no systemd in the tests",
    "systemd-analyze verify": "it was done by hand: there is no systemd in the tests",
    "ssh -L 8800:127.0.0.1:8800 that-machine": "it needs another machine",
    "python3 -m venv /opt/gpt2bot": ROOT_USER,
    "pip install .": INDEX,
    "pip install “simcord[preview]<3.3”": INDEX,
    "python -m scripts.messages --update": "it writes into the catalogues",
    "uv venv": "it would ask whether to remove the environment that runs the tests",
    "uv venv --clear": "it would remove the environment that runs the tests",
    "uv pip install --torch-backend cpu .": INDEX,
    "uv pip install --torch-backend cpu -e “.[demo]”": INDEX,
    "uv sync --extra encryption": INDEX,
    "uv sync --extra cluster": INDEX,
    "uv sync --extra peers": "it compiles llama.cpp for some minutes",
}
"""What is shown, and why no test runs it."""

FENCED = re.compile(r"^```[\w-]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4,}(.*)$", re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
BEFORE = re.compile(
    r"^(?:!|(?:[\d*]+ +){5}|[A-Z\d_]+=\S+ +|sudo -u \w+ +|\S*/bin/"
    r"|uv run +(?:--(?:extra|group) \w+ +)*(?=\w))"
)
"""What may stand before a command: a notebook's mark, cron's times, variables, a user, a folder."""
AFTER = re.compile(r"\s{2,}|\s[#>]\s")
"""Where it ends: at a comment, a table's next column, or where its output goes."""


def shown() -> dict[str, set[str]]:
    """Each command, and the documents that show it."""
    found: dict[str, set[str]] = {}
    for document in DOCUMENTS:
        for command in commands_of(document) - NAMES:
            found.setdefault(command, set()).add(document.name)
    return found


def commands_of(document: Path) -> set[str]:
    """The commands that a document shows, or names."""
    lines = code(document.read_text(encoding="utf-8"))
    parts = {bare(part) for line in lines for part in line.split("&&")}
    return {one for one in parts if one.split(" ")[0] in PROGRAMS}


def code(text: str) -> Iterator[str]:
    """The lines of blocks of code, and the spans of it in sentences."""
    for block in FENCED.findall(text):
        yield from block.splitlines()
    text = FENCED.sub("", text)
    yield from INDENTED.findall(text)
    yield from (" ".join(span.split()) for span in SPAN.findall(text))


def bare(text: str) -> str:
    """A command without what may stand around it; quotation marks as the tables here have them."""
    text = text.strip()
    while (rest := BEFORE.sub("", text)) != text:
        text = rest
    return re.sub(r'"([^"]*)"', r"“\1”", AFTER.split(text)[0].strip())


def test_each_command_that_is_shown_is_run_or_says_why_not() -> None:
    known = [*RUN, *SLOW, *ELSEWHERE, *NOT_HERE]
    assert len(known) == len(set(known))
    there = shown()
    assert {one: pages for one, pages in there.items() if one not in known} == {}
    assert {one for one in known if one not in there} == set(), "no document shows these any more"


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.ja.md")), ids=lambda page: page.stem)
def test_both_languages_show_the_same_commands(page: Path) -> None:
    english = page.with_name(page.name.replace(".ja.md", ".md"))
    assert commands_of(page) == commands_of(english)


STARTED = "python -m training.run JOB_DIR"
"""What the bot types, not a person."""


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_what_is_to_be_typed_needs_no_active_environment(page: Path) -> None:
    """`docs/benchmarks.md` says once what comes before its commands."""
    typed_bare = {line for line in code(page.read_text("utf-8")) if line.startswith("python -m ")}
    assert page.name == "benchmarks.md" or typed_bare <= {STARTED}


def test_what_runs_the_others_is_there() -> None:
    script = (ROOT / CI).read_text(encoding="utf-8")
    lines = [line for line in script.splitlines() if not line.startswith("#")]
    for command, where in ELSEWHERE.items():
        if where == CI:
            assert any(set(command.split()) <= set(line.split()) for line in lines), command
        else:
            file, name = where.split("::", 1)
            assert name in names_in(ROOT / file), where


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with what the commands take: settings, ten pairs, a database and a copy of it; and
    a home where `tiny` has answered before."""
    shutil.copy(ROOT / ".env.example", tmp_path)
    write_pairs([Pair(f"question {n}?", f"answer {n}") for n in range(10)], tmp_path / "pairs.xlsx")
    put_built_tiny(tmp_path / "var")

    async def make(path: Path) -> None:
        async with open_storage(path) as storage:
            await storage.examples.add(NewExample(42, "Hello?", "Hello!", 7, "teach"))

    asyncio.run(make(tmp_path / "backup.sqlite3"))
    shutil.copy(tmp_path / "backup.sqlite3", tmp_path / "var" / "gpt2bot.sqlite3")
    return tmp_path


def typed(command: str, place: Path) -> subprocess.CompletedProcess[str]:
    program, *words = shlex.split(command)
    if program == "gpt2bot":
        return Command(place)(*words)
    return subprocess.run(
        [sys.executable if program == "python" else program, *words],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT), "GPT2BOT_HOME": "var", "DISCORD_TOKEN": ""},
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize(
    "command", [*RUN, *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)]
)
def test_it_runs(command: str, place: Path) -> None:
    done = typed((RUN | SLOW)[command], place)
    assert done.returncode == STATUS.get(command, 0), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
