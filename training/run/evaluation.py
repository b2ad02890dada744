"""The checks that a new checkpoint passes before anybody chats with it.

Runs in the training process, on the model that has just learned, beside its base and the model in
service. Imports torch. Does not raise for a model that fails: the reason is in the report.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.japanese import JAPANESE_LETTERS
from core.records import Conversation, Message, Role
from i18n.phrase import Phrase, phrase
from model.chat_template import build_prompt, encode, ensure_template, is_japanese, stop_strings
from training.errors import BaseUnavailable
from training.run import tokenization
from training.run.base_model import load_pretrained
from training.run.loop import logits_on_labels_only
from training.run.mixing import normalized_question, read_conversations

log = logging.getLogger(__name__)

PROBES = ("Hello!", "How are you?", "What do you like to do?")
PROBES_JA = ("こんにちは！", "元気ですか？", "何をするのが好きですか？")
MAX_TAUGHT_PROMPTS = 3
"""Taught questions that are asked too."""
MAX_REPLY_TOKENS = 40
MAX_LOSS_RATIO = 1.10
"""How many times the held-out loss of others that of the new model may be."""
VERBATIM_WORDS = 12
"""Words in a row of one taught text that make an answer a recital."""
VERBATIM_CHARS_JA = 27
"""The same in letters of Japanese, which has no spaces between words."""
NOT_JAPANESE = re.compile(rf"[^{JAPANESE_LETTERS}]+")
MAX_OWN_CONVERSATIONS = 64
"""Conversations of the server that are measured: enough to tell, and soon done."""
HELD_OUT_FILE = Path(__file__).parents[1] / "data" / "held_out.jsonl"
"""Conversations of chitchat-dataset (MIT) that no model of this project was trained on."""
HELD_OUT_FILE_JA = Path(__file__).parents[1] / "data" / "held_out_ja.jsonl"
"""The same for models that speak Japanese, written by this project."""

LossByModel = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said to a prompt by the model in service (or the base), and by the new one."""

    prompt: str
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What the checks found: answers side by side; for `general` talk and the server's `own`, the
    losses of `base`, `serving` and `new`; and why it did not pass, if it did not.

    Losses are in nats for each token that the new model would need, so those of models with
    other vocabularies compare. None: not measured, or not a number.
    """

    answers: tuple[Answer, ...]
    losses: Mapping[str, LossByModel]
    refusal: Phrase | None


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """What every model is measured on: what it is asked, and talk that it is to expect."""

    prompts: tuple[str, ...]
    general: Sequence[Conversation]
    own: Sequence[Conversation]
    max_length: int


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What one model made of the exam: losses (NaN: nothing to measure) and answers."""

    name: str
    general: float
    own: float
    replies: tuple[str, ...]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    taught: Sequence[Conversation],
    *,
    base: str | None,
    serving: str | None,
    held_out: Sequence[Conversation] | None = None,
    own: Sequence[Conversation] = (),
    max_length: int = 128,
) -> EvaluationReport:
    """Ask and compare. `base` and `serving` are folders or Hub ids; what cannot be loaded is not
    compared with. `held_out` is general talk, by default that of GENERAL, or GENERAL_JA; `own` are
    held-out conversations of the server, in place of which the taught ones serve."""
    if not all(torch.isfinite(weight).all() for weight in model.parameters()):
        return EvaluationReport((), {}, phrase("Some of its weights are not numbers."))
    talk, probes = (
        (HELD_OUT_FILE_JA, PROBES_JA) if is_japanese(tokenizer) else (HELD_OUT_FILE, PROBES)
    )
    general = read_conversations(talk) if held_out is None else held_out
    exam = EvaluationSet(
        _evaluation_prompts(taught, probes), general, _subsample(own or taught), max_length
    )
    new = _evaluate_model(model, tokenizer, tokenizer, exam, "new")
    if not math.isfinite(new.general):
        reason = phrase("Its loss on held-out conversations is not a number.")
        return EvaluationReport(
            _pair_answers(exam, None, new), _loss_table(None, None, new), reason
        )
    sources = dict.fromkeys(filter(None, (base, serving)))
    others = {one: _evaluate_reference(one, model.device, tokenizer, exam) for one in sources}
    old, current = others.get(base or ""), others.get(serving or "")
    answers = _pair_answers(exam, current or old, new)
    reasons = (
        *_bad_answers(tokenizer, answers),
        *_regressions(new, [one for one in (old, current) if one]),
        *_not_learned(new, old, unseen=bool(own)),
        *_verbatim_answers(taught, answers),
    )
    return EvaluationReport(
        answers, _loss_table(old, current, new), reasons[0] if reasons else None
    )


def _evaluation_prompts(taught: Sequence[Conversation], probes: Sequence[str]) -> tuple[str, ...]:
    """The first taught questions and the probes, each once."""
    first = [turns[0].content for turns in taught[:MAX_TAUGHT_PROMPTS] if turns]
    return tuple(dict.fromkeys([*first, *probes]))


def _subsample(conversations: Sequence[Conversation]) -> Sequence[Conversation]:
    """At most OWN of them, from first to last."""
    return conversations[:: math.ceil(len(conversations) / MAX_OWN_CONVERSATIONS) or 1]


def _evaluate_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    unit: PreTrainedTokenizerBase,
    exam: EvaluationSet,
    name: str,
) -> EvaluationResult:
    """Losses are in nats for each token of the tokenizer `unit`."""

    def loss(talk: Sequence[Conversation]) -> float:
        tokens, wanted = (_count_reply_tokens(one, talk) for one in (tokenizer, unit))
        return mean_loss(model, tokenizer, talk, exam.max_length) * tokens / max(1, wanted)

    return EvaluationResult(
        name, loss(exam.general), loss(exam.own), greedy_replies(model, tokenizer, exam.prompts)
    )


def _count_reply_tokens(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]
) -> int:
    """Tokens that the bot says in them."""
    return sum(sum(one.assistant_mask) for one in encode(tokenizer, conversations))


def _evaluate_reference(
    source: str, device: torch.device, unit: PreTrainedTokenizerBase, exam: EvaluationSet
) -> EvaluationResult | None:
    """Load, examine and let go again: there is memory for one other model at a time."""
    try:
        model, tokenizer = load_pretrained(source)
    except BaseUnavailable as e:
        log.warning("the new model is not compared with %s: %s", source, e)
        return None
    ensure_template(tokenizer)
    on_device: Any = model
    return _evaluate_model(on_device.to(device), tokenizer, unit, exam, Path(source).name)


def _pair_answers(
    exam: EvaluationSet, before: EvaluationResult | None, new: EvaluationResult
) -> tuple[Answer, ...]:
    return tuple(
        Answer(prompt, before.replies[n] if before else None, new.replies[n])
        for n, prompt in enumerate(exam.prompts)
    )


def _loss_table(
    old: EvaluationResult | None, current: EvaluationResult | None, new: EvaluationResult
) -> dict[str, LossByModel]:
    def shown(kind: str, one: EvaluationResult | None) -> float | None:
        loss = getattr(one, kind, math.nan)
        return loss if math.isfinite(loss) else None

    models = {"base": old, "serving": current, "new": new}
    return {
        kind: {name: shown(kind, one) for name, one in models.items()}
        for kind in ("general", "own")
    }


def _bad_answers(tokenizer: PreTrainedTokenizerBase, answers: Sequence[Answer]) -> Iterator[Phrase]:
    for one in answers:
        asked, said = one.prompt[:80], one.after[:80]
        if not one.after:
            yield phrase("It had no answer to “{asked}”.", asked=asked)
        if is_repetitive(tokenizer.encode(one.after, add_special_tokens=False)):
            yield phrase(
                "It repeated itself when asked “{asked}”: “{said}”.", asked=asked, said=said
            )


def _regressions(new: EvaluationResult, others: Sequence[EvaluationResult]) -> Iterator[Phrase]:
    for other in others:
        if new.general > MAX_LOSS_RATIO * other.general:
            yield phrase(
                "It talks worse than {other} in general: "
                "held-out loss {loss:.2f} against {theirs:.2f}.",
                other=other.name,
                loss=new.general,
                theirs=other.general,
            )


def _not_learned(
    new: EvaluationResult, old: EvaluationResult | None, *, unseen: bool
) -> Iterator[Phrase]:
    """What it was taught it should know better than its base; the `unseen` rest, about as well."""
    if old is None or not new.own > old.own * (MAX_LOSS_RATIO if unseen else 1):
        return
    what = phrase("this server's held-out talk") if unseen else phrase("what it was taught")
    yield phrase(
        "It knows less of {what} than {other}: loss {loss:.2f} against {theirs:.2f}.",
        what=what,
        other=old.name,
        loss=new.own,
        theirs=old.own,
    )


def _verbatim_answers(
    taught: Sequence[Conversation], answers: Sequence[Answer]
) -> Iterator[Phrase]:
    """Answers to general questions that recite what somebody wrote; a taught answer is wished."""
    wished = {normalized_question(turns) for turns in taught if turns}
    said = [message.content for turns in taught for message in turns]
    texts, letters = (
        [_normalized(_words(one)) for one in said],
        [_japanese_chars(one) for one in said],
    )
    for one in answers:
        if normalized_question((Message(Role.USER, one.prompt),)) in wished:
            continue
        if run := _verbatim_japanese(one.after, letters):
            yield phrase(
                "It recites a taught text when asked “{asked}”: “{recited}…”.",
                asked=one.prompt[:80],
                recited=run,
            )
            continue
        words = _words(one.after)
        for n in range(len(words) - VERBATIM_WORDS + 1):
            run = _normalized(words[n : n + VERBATIM_WORDS])
            if any(run in text for text in texts):
                recited = one.after[words[n].start() :][:80]
                yield phrase(
                    "It recites a taught text when asked “{asked}”: “{recited}…”.",
                    asked=one.prompt[:80],
                    recited=recited,
                )
                break


def _verbatim_japanese(answer: str, taught: Sequence[str]) -> str:
    """The first RECITED_JA letters in a row that are in a taught text; empty if there are none."""
    letters = _japanese_chars(answer)
    runs = (letters[n : n + VERBATIM_CHARS_JA] for n in range(len(letters) - VERBATIM_CHARS_JA + 1))
    return next((run for run in runs if any(run in text for text in taught)), "")


def _japanese_chars(text: str) -> str:
    """Its Japanese letters, without what stands between them."""
    return NOT_JAPANESE.sub("", text)


def _words(text: str) -> list[re.Match[str]]:
    return list(re.finditer(r"\w+(?:['’]\w+)*", text))


def _normalized(words: Sequence[re.Match[str]]) -> str:
    """Words as they are compared: without case and apostrophes, a space around each."""
    bare = (word[0].casefold().replace("’", "").replace("'", "") for word in words)
    return f" {' '.join(bare)} "


@torch.inference_mode()
def mean_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    max_length: int,
    batch: int = 8,
) -> float:
    """The mean loss, in nats a token, of what the bot says in these conversations.

    Conversations of more than `max_length` tokens, or than the model has positions, lose their
    beginning. NaN: the bot says nothing in them.
    """
    model.train(False)
    longest = min(max_length, int(model.config.n_positions))
    rows = tokenization.examples(tokenizer, conversations, longest, "bot").to_list()
    rows.sort(key=lambda row: row["length"])
    total, count = 0.0, 0
    with logits_on_labels_only(model):
        for start in range(0, len(rows), batch):
            tensors: Any = tokenization.collate(rows[start : start + batch], tokenizer.eos_token_id)
            tensors = {name: values.to(model.device) for name, values in tensors.items()}
            learned = int((tensors["labels"][:, 1:] != tokenization.IGNORE_INDEX).sum())
            total += float(model(**tensors).loss) * learned
            count += learned
    return total / count if count else math.nan


def is_repetitive(tokens: Sequence[int]) -> bool:
    """Whether fewer than a third of the 3-grams of at least 15 tokens are distinct."""
    if len(tokens) < 15:
        return False
    grams = [tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2)]
    return len(set(grams)) * 3 < len(grams)


@torch.inference_mode()
def greedy_replies(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> tuple[str, ...]:
    """The likeliest answer to each, of at most REPLY_TOKENS tokens; all are made at once."""
    model.train(False)
    positions = int(model.config.n_positions)
    most = min(MAX_REPLY_TOKENS, positions // 2)
    prompts = [
        build_prompt(tokenizer, [Message(Role.USER, text)], positions - most).input_ids
        for text in texts
    ]
    longest = max(map(len, prompts))
    gaps = [longest - len(prompt) for prompt in prompts]  # on the left: a reply begins at the end
    filler = tokenizer.eos_token_id
    ids = [[filler] * gap + prompt for gap, prompt in zip(gaps, prompts, strict=True)]
    seen = [[0] * gap + [1] * (longest - gap) for gap in gaps]
    generate: Any = model.generate  # its types are too wide to be of use
    out: Any = generate(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=torch.tensor(seen, device=model.device),
        max_new_tokens=most,
        do_sample=False,
        pad_token_id=filler,
    )
    return tuple(_reply_text(tokenizer, row[longest:]) for row in out)


def _reply_text(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> str:
    """The text of a reply, up to where it ends in the tokenizer's chat template."""
    said = str(tokenizer.decode(ids, skip_special_tokens=True))
    for stop in stop_strings(tokenizer):
        said = said.lstrip().partition(stop)[0]
    return said.strip()
