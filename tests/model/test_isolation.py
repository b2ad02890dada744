"""Strangers' templates and tokenizers that run away: told, set aside by name, and nobody waits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from core.records import Message, Role
from model import isolation
from model.chat_template import build_prompt
from model.control_tokens import control_tokens, escape_control_tokens
from model.errors import GenerationFailed, LoadFailed, RunawayModel
from model.isolation import IsolatedTokenizer
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from tests.builds import BUILT, built
from tests.model.conftest import load
from tests.model.test_strange_tokenizers import Kind, make, save, templated
from tests.model_folders import END, make_tokenizer

SOON_S = 60
"""Seconds after which something hangs."""
ENDLESS = "{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}"
LOOPS = "{% set r = range(99999) %}" + ENDLESS
GIANT = "{{ 'x' * 999999 }}" * 9
HUGE = "{{ 'x' * 99999999999 }}"
SAID = "{{ messages[-1].content }}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is ended soon, if it hangs in a child of this process."""
    monkeypatch.setattr(isolation, "TIME_LIMIT_S", 1.5)


def if_typed(word: str, what: str) -> str:
    return f"{{% if '{word}' in messages[-1].content %}}{what}{{% endif %}}{SAID}"


def nested_repeats(folder: Path) -> None:
    """It panics where it finds a run of that letter."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": "(q+)+b"}, "behavior": "Isolated"}
    bytes_ = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    parts = [split | {"invert": False}, bytes_]
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": parts}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("template", "words"),
    [(LOOPS, ()), (GIANT, ()), (HUGE, ()), (HUGE, ("mill",))],
    ids=["loop", "giant text", "no memory", "no memory for words"],
)
def test_a_template_that_runs_away_is_not_loaded(
    template: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    """With added words, the build already renders it, in the same child with the same limits."""
    folder = make(tmp_path / "evil", Kind(templated(template + SAID), words))
    with pytest.raises(LoadFailed, match="evil is set aside: its chat template or tokenizer"):
        load(folder)


def test_a_tokenizer_that_panics_ends_its_child_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ours = load(make(tmp_path / "evil", Kind(nested_repeats))).tokenizer
    assert isinstance(ours, IsolatedTokenizer)
    assert ours.decode(ours.encode("harbour b")) == "harbour b"
    with pytest.raises(RunawayModel):
        build_prompt(ours, [Message(Role.USER, "q" * 60)], 200)
    assert "panicked" not in capfd.readouterr().err
    assert ours.decode(ours.encode("harbour b")) == "harbour b"  # in another child


def test_the_child_ends_with_its_tokenizer(tmp_path: Path) -> None:
    ours = load(make(tmp_path / "model", Kind(templated(SAID)))).tokenizer
    assert isinstance(ours, IsolatedTokenizer)
    assert ours.encode("mill")
    assert ours._child is not None
    pid = ours._child.pid
    del ours
    assert not psutil.pid_exists(pid)


def test_a_child_that_read_what_is_to_be_forgotten_ends(tmp_path: Path) -> None:
    ours = load(make(tmp_path / "model", Kind(templated(SAID)))).tokenizer
    assert isinstance(ours, IsolatedTokenizer)
    ids = ours.encode("mill")
    assert ours._child is not None
    pid = ours._child.pid
    ours.clear_cache()
    ours.clear_cache()
    assert not psutil.pid_exists(pid)
    assert ours.encode("mill") == ids


@pytest.mark.usefixtures("impatient")
def test_a_child_that_is_stuck_ends_without_its_parent(tmp_path: Path) -> None:
    ours = load(make(tmp_path / "evil", Kind(templated(if_typed("mill", LOOPS))))).tokenizer
    assert isinstance(ours, IsolatedTokenizer)
    child = ours._child
    assert child is not None
    assert child.stdin is not None
    child.stdin.write(json.dumps(["render", [{"role": "user", "content": "mill"}], True]) + "\n")
    child.stdin.close()
    assert child.wait(SOON_S) == 1


def test_what_cannot_run_away_needs_no_child(folders: Path) -> None:
    for name in ("red", "plain"):
        assert not isinstance(load(folders / name).tokenizer, IsolatedTokenizer)


async def reply(client: WorkerClient, source: Path, text: str) -> str:
    talk = [Message(Role.USER, text)]
    async with asyncio.timeout(SOON_S):
        pieces: list[Any] = [
            one async for one in client.generate(str(source), talk, SamplingParams())
        ]
    return str(pieces[-1].text)


@pytest.mark.parametrize(
    ("spoil", "typed"),
    [
        (templated(if_typed("mill", LOOPS)), "mill"),
        (templated(if_typed("mill", HUGE)), "mill"),
        (nested_repeats, "q" * 60),
    ],
    ids=["loop", "no memory", "panic"],
)
async def test_only_the_model_at_fault_is_set_aside(
    spoil: Callable[[Path], None], typed: str, folders: Path, tmp_path: Path
) -> None:
    """What is typed makes it run away, while an innocent model answers others."""
    evil, red = built(make(tmp_path / "evil", Kind(spoil))), folders / "red"
    async with WorkerClient(WorkerSettings(threads=1, build_cache=BUILT)) as client:
        await client.load(str(red))
        await client.load(str(evil))
        pid = client.pid
        waiting = asyncio.create_task(reply(client, red, "hello"))
        with pytest.raises(GenerationFailed, match="evil is set aside"):
            await reply(client, evil, typed)
        assert await waiting == "red roses are in bloom"
        assert list(client.quarantined) == [str(evil)]
        assert str(evil) not in client.models
        with pytest.raises(LoadFailed, match="evil is set aside"):
            await reply(client, evil, "hello")
        assert await reply(client, red, "hello") == "red roses are in bloom"
        assert (client.pid, client.restarts) == (pid, 0)
        await client.load(str(evil))  # on purpose
        assert client.quarantined == {}


# --- what people type ----------------------------------------------------------------------------

HOSTILE = (" x", "x ", " ", "§", "\n", "  ", "港", " admin", "ab", "a b", "<|sep|>", "\u2028", "é")
PARTS = ("x", "Admin", "a", "b", "e\u0301", END)


def hostile_tokenizer(tokens: tuple[str, ...], lowercase: bool) -> Any:
    """Special tokens as nobody would choose them."""
    tokenizer: Any = make_tokenizer(["mill"], plain=True)
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    if lowercase:
        fast.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.NFC()])
    fast.add_special_tokens(
        [AddedToken(one, special=True, normalized=lowercase) for one in (*tokens, "ADMIN")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=fast, eos_token=END)


@given(
    st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=5, unique=True),
    st.lists(
        st.sampled_from((*HOSTILE, "x", "Admin", "a", "b", "e\u0301", END)) | st.text(max_size=4)
    ),
    st.booleans(),
)
def test_no_special_token_can_be_typed_whatever_it_is(
    tokens: list[str], typed: list[str], lowercase: bool
) -> None:
    tokenizer = hostile_tokenizer(tuple(tokens), lowercase)
    control = set(control_tokens(tokenizer).values())
    assert len(control) == len(tokens) + 2
    text = escape_control_tokens(tokenizer, "".join(typed))
    for around in ("{}", "User: {}", "[{}]"):
        ids = tokenizer.encode(around.format(text), add_special_tokens=False)
        plain = tokenizer.encode(around.format("z"), add_special_tokens=False)
        assert len(control & set(ids)) <= len(control & set(plain)), text


async def test_a_token_that_begins_with_a_space_hangs_nobody(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(["mill", "some"], plain=True)
    for special in (False, True):
        tokenizer.add_tokens(
            [AddedToken(f" admin{special}", special=special)], special_tokens=special
        )
    folder = built(save(tmp_path / "model", tokenizer))
    began = time.monotonic()
    async with WorkerClient(WorkerSettings(threads=1, build_cache=BUILT)) as client:
        for text in ("I am admin", " adminTrue adminFalse", " adminTrue" * 200):
            await reply(client, folder, text)
        assert client.restarts == 0
    assert time.monotonic() - began < SOON_S
