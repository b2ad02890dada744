"""Runs a stranger's chat template and tokenizer in a child process with limits of time and memory.

A template is a program, and a tokenizer may have regular expressions; either may run for ever, take
all memory, or end its process. One child for each model, started when it is first needed. It speaks
JSON lines, and ends with its stdin.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jinja2 import TemplateError

from core.subprocesses import LAUNCH_OPTIONS, child_environment
from i18n.phrase import Phrase, phrase
from model.errors import RunawayModel
from model.tokenizer import Tokenizer

TIME_LIMIT_S = 10.0
"""Seconds for one text, the start of the child included; an ordinary one takes milliseconds."""
MAX_CHILD_BYTES = 2 << 30
"""Address space of the child."""
MAX_TEXT_CHARS = 1 << 20
"""Length of a rendered conversation; the longest ordinary one has a fiftieth of that."""
CHILD_SCRIPT = "from model.isolation import main; main()"


def runaway_message(who: str) -> Phrase:
    """Of a model that cannot be used on account of RunawayModel."""
    return phrase(
        "{who} is set aside: its chat template or tokenizer takes too much time or memory, or "
        "crashes. `/model use` tries it again.",
        who=who,
    )


class IsolatedTokenizer(Tokenizer):
    """A Tokenizer that renders and encodes in a child; it decodes here.

    Raises:
        RunawayModel: on any use, the child took too much time or memory, or ended.
    """

    def __init__(
        self, file: Path, *, special_tokens: Mapping[str, str], chat_template: str
    ) -> None:
        super().__init__(file, special_tokens=special_tokens, chat_template=chat_template)
        self._setup = json.dumps([str(file), dict(special_tokens), chat_template])
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    @property
    def backend_tokenizer(self) -> Any:
        return _RemoteBackend(self)

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False
    ) -> str:
        return str(self.ask("render", messages, add_generation_prompt))

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Have the child execute an operation."""
        with self._lock:
            line = self._exchange(json.dumps([operation, *arguments]))
            answer: dict[str, Any] = json.loads(line) if line else {}
            if "result" not in answer and "refusal" not in answer:
                self._end_child()
                raise RunawayModel(runaway_message(phrase("The model")))
        if "refusal" in answer:
            raise TemplateError(answer["refusal"])
        return answer["result"]

    def _exchange(self, request: str) -> str:
        """Send a line and return the answer; empty if there was none in time."""
        child = self._child or self._start_child()
        assert child.stdin is not None  # pipes were asked for
        assert child.stdout is not None
        timer = threading.Timer(TIME_LIMIT_S, child.kill)
        timer.start()
        try:
            child.stdin.write(f"{request}\n")
            child.stdin.flush()
            return child.stdout.readline()
        except OSError:  # it has ended
            return ""
        finally:
            timer.cancel()

    def _start_child(self) -> subprocess.Popen[str]:
        limits = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        child = self._child = subprocess.Popen(
            [sys.executable, "-c", CHILD_SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a panic of the tokenizer prints there
            text=True,
            encoding="utf-8",
            env=child_environment() | limits,
            **LAUNCH_OPTIONS,
        )
        self._finalizer = weakref.finalize(self, _end, child)
        assert child.stdin is not None
        with contextlib.suppress(OSError):
            child.stdin.write(f"{self._setup}\n")
        return child

    def _end_child(self) -> None:
        self._finalizer()
        self._child = None


class _RemoteBackend:
    """What `model.chat_template` uses of a fast tokenizer, with its heavy parts in the child."""

    def __init__(self, tokenizer: IsolatedTokenizer) -> None:
        self._tokenizer = tokenizer
        self._fast = tokenizer._fast

    def encode(self, text: str, *, add_special_tokens: bool = True) -> Any:
        ids, offsets = self._tokenizer.ask("encode", text, add_special_tokens)
        return SimpleNamespace(ids=ids, offsets=[tuple(one) for one in offsets])

    @property
    def normalizer(self) -> Any:
        if self._fast.normalizer is None:
            return None
        return SimpleNamespace(normalize_str=lambda text: self._tokenizer.ask("normalize", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fast, name)


def _end(child: subprocess.Popen[str]) -> None:
    child.kill()
    with child, contextlib.suppress(OSError):
        pass  # closes the pipes and waits


# --- in the child --------------------------------------------------------------------------------


def main() -> None:
    """Answer requests until stdin ends."""
    _limit_memory()
    file, special_tokens, template = json.loads(sys.stdin.readline())
    tokenizer = Tokenizer(Path(file), special_tokens=special_tokens, chat_template=template)
    for line in sys.stdin:
        sys.stdout.write(f"{json.dumps(_answer(tokenizer, *json.loads(line)))}\n")
        sys.stdout.flush()


def _answer(tokenizer: Tokenizer, operation: str, *arguments: Any) -> dict[str, Any]:
    fast = tokenizer.backend_tokenizer
    match operation, arguments:
        case "encode", (text, add_special_tokens):
            encoding = fast.encode(text, add_special_tokens=add_special_tokens)
            return {"result": [encoding.ids, encoding.offsets]}
        case "normalize", (text,):
            return {"result": fast.normalizer.normalize_str(text)}
        case _, (messages, cue):
            try:
                text = tokenizer.render(messages, add_generation_prompt=cue)
            except TemplateError as e:
                return {} if isinstance(e.__cause__, MemoryError) else {"refusal": str(e)}
            return {"result": text} if len(text) <= MAX_TEXT_CHARS else {}
    raise AssertionError(operation)


def _limit_memory() -> None:
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_CHILD_BYTES, MAX_CHILD_BYTES))
