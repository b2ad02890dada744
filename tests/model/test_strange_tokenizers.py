"""Tokenizers and chat templates of all kinds: the ids are those of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

from core.records import Message, Role
from model.chat_template import build_prompt, count_tokens, encode_chat
from model.control_tokens import control_tokens, escape_control_tokens
from model.convert.validation import validate_folder
from model.errors import LoadFailed
from model.loading import LoadedModel
from tests.model.conftest import load
from tests.model_folders import END, make_tokenizer
from training.run.base_model import load_pretrained

TEXTS = ["a seagull said :wave: at 港", "harbour", " two  spaces", "mill\n\nmill", "<s>[PAD]§"]
TALK = [
    Message(Role.USER, "harbour mill"),
    Message(Role.ASSISTANT, "mill"),
    Message(Role.USER, "seagull?"),
]
ALTERNATING = (
    "{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('user first') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "[{{ m['content'] }}]{{ eos_token }}{% endfor %}"
)


def save(path: Path, tokenizer: GPT2Tokenizer, rows: int = 0, **config: Any) -> Path:
    sizes = {"n_positions": 256, "n_embd": 16, "n_layer": 1, "n_head": 2, "eos_token_id": 0}
    model = GPT2LMHeadModel(
        GPT2Config(**{"vocab_size": rows or len(tokenizer), **sizes, "bos_token_id": 0} | config)
    )
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def edit(path: Path, **changes: Any) -> None:
    kept = {k: v for k, v in (json.loads(path.read_text()) | changes).items() if v is not ...}
    path.write_text(json.dumps(kept))


def templated(template: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "tokenizer_config.json", chat_template=template)


def settings(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "tokenizer_config.json", **changes)


def as_file(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", chat_template="not this one")
    (folder / "chat_template.jinja").write_text("{{ messages[-1].content }}")


def as_old_files(folder: Path) -> None:
    whole = json.loads((folder / "tokenizer.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer.json").unlink()


def named_in_a_map(folder: Path) -> None:
    """As older versions of transformers saved it."""
    config = folder / "tokenizer_config.json"
    edit(config, bos_token=..., eos_token=..., pad_token=..., added_tokens_decoder=...)
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": END, "eos_token": {"content": END}, "pad_token": END})
    )


def own_splitting(folder: Path) -> None:
    """A GPT2Tokenizer takes no notice of it."""
    digits = {"type": "Digits", "individual_digits": True}
    edit(folder / "tokenizer.json", pre_tokenizer=digits, normalizer={"type": "Lowercase"})


def lowercased(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    edit(folder / "tokenizer.json", normalizer={"type": "Lowercase"})


@dataclass(frozen=True)
class Kind:
    after: Callable[[Path], None] = lambda _: None
    words: tuple[str, ...] = ()
    special: tuple[str, ...] = ()
    rows: int = 0


KINDS = {
    "plain": Kind(templated("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")),
    "added words": Kind(templated("{{ messages[-1].content }}"), ("seagull", ":wave:", "港")),
    "words with spaces": Kind(templated("{{ messages[-1].content }}"), (" seagull", "said ", "§")),
    "more rows than tokens": Kind(templated("{{ messages[-1].content }}"), rows=400),
    "prefix space": Kind(
        settings(add_prefix_space=True, chat_template="{{ messages[0].content }}")
    ),
    "own splitting": Kind(lambda folder: (own_splitting(folder), as_file(folder))),
    "lowercased": Kind(lambda folder: (lowercased(folder), as_file(folder))),
    "old files": Kind(lambda folder: (as_old_files(folder), as_file(folder))),
    "map of special tokens": Kind(lambda folder: (named_in_a_map(folder), as_file(folder))),
    "only named in the settings": Kind(
        settings(
            additional_special_tokens=["<x>"], sep_token="<s>", extra_special_tokens=...,
            added_tokens_decoder={"0": {"content": END, "special": True, "normalized": False,
            "lstrip": False, "rstrip": False, "single_word": False}},
            chat_template="{{ sep_token }}{{ messages[-1].content }}{{ pad_token }}<x>",
        ),
        rows=300,
    ),
    "template in a file": Kind(as_file),
    "several templates": Kind(
        templated([{"name": "tool_use", "template": "no"},
                   {"name": "default", "template": "yes {{ messages[-1].content }}"}])
    ),
    "special tokens in the template": Kind(
        templated("{{ bos_token }}{{ unk_token }}{{ nothing }}{{ messages[0].content }}")
    ),
    "alternating": Kind(templated(ALTERNATING)),
    "dates": Kind(templated("{{ strftime_now('%Y-%m-%d %B') }} {{ messages[-1].content }}")),
    "tools and documents": Kind(
        templated("{% if tools is not none or documents is not none %}{{ 1 / 0 }}{% endif %}"
                  "{{ messages | map(attribute='content') | join('|') }}")
    ),
    "loops, macros, namespaces": Kind(
        templated(
            "{% macro say(m) %}<{{ m.role | upper }}>{{ m.content | trim }}{% endmacro %}"
            "{% set ns = namespace(n=0) %}{% set d = dict(a=1) %}{{ d | tojson(indent=1) }}"
            "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
            "{% set ns.n = ns.n + 1 %}{{ ns.n }}{% generation %}{% set x = 1 %}{{ say(m) }}"
            "{% endgeneration %}{{ x }}{% if ns.n == 2 %}{% break %}{% endif %}{% endfor %}"
        )
    ),
}  # fmt: skip


def make(path: Path, kind: Kind) -> Path:
    tokenizer = make_tokenizer(["harbour", "mill"], plain=True)
    tokenizer.add_tokens([AddedToken(one, normalized=False) for one in kind.words])
    if kind.special:
        tokenizer.add_special_tokens({"additional_special_tokens": list(kind.special)})
    save(path, tokenizer, kind.rows)
    kind.after(path)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_ids_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", KINDS[name])
    theirs: Any = AutoTokenizer.from_pretrained(folder)
    ours = load(folder).tokenizer
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), text
    chat = [{"role": one.role.value, "content": one.content} for one in TALK]
    for cue in (False, True):
        ids = theirs.apply_chat_template(chat, add_generation_prompt=cue, return_dict=False)
        assert encode_chat(ours, TALK, add_generation_prompt=cue) == ids
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert control_tokens(ours) == control_tokens(theirs)
    of_training = load_pretrained(str(folder))[1]
    assert encode_chat(of_training, TALK) == encode_chat(ours, TALK)


def test_a_template_for_alternating_roles_takes_any_conversation(tmp_path: Path) -> None:
    loaded = load(make(tmp_path / "model", KINDS["alternating"]))

    def prompt(roles: str) -> Any:
        turns = [
            Message(Role.USER if one == "u" else Role.ASSISTANT, f"word{n}")
            for n, one in enumerate(roles)
        ]
        return build_prompt(loaded.tokenizer, turns, 200)

    assert prompt("ubu").text == f"[word0]{END}[word1]{END}[word2]{END}"
    assert prompt("uu").text == f"[word0\nword1]{END}"
    assert prompt("bu").text == f"[word1]{END}"
    assert prompt("bbuubu").text == f"[word2\nword3]{END}[word4]{END}[word5]{END}"
    for roles in ("u", "ubu", "uu", "bu", "bbu", "bbbu", "ubuubu", "bbuubu"):
        made = prompt(roles)
        counts = count_tokens(loaded.tokenizer, made.messages)
        assert sum(counts) == len(made.input_ids)
        assert len(counts) == len(made.messages)
        assert len(made.messages) + made.num_dropped == len(roles)
    assert [prompt(roles).num_dropped for roles in ("bu", "bbu", "bbuubu")] == [1, 2, 2]


@pytest.mark.parametrize(
    "last", ["seagull?", "a boat?", "use the boat", "us two", "7310495862", "{'type': 'text'"]
)
def test_a_template_that_wants_content_as_a_list_gets_one(last: str, tmp_path: Path) -> None:
    """Also if the template itself writes what the message begins with."""
    listing = (
        "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{{ p.text }}{% endfor %};"
        "{% endfor %}<assistant>"
    )
    ours = load(make(tmp_path / "model", Kind(templated(listing)))).tokenizer
    talk = [*TALK, Message(Role.ASSISTANT, last), Message(Role.USER, last)]
    assert build_prompt(ours, talk, 400).text == (
        "<user>harbour mill;<assistant>mill;<user>seagull?;"
        f"<assistant>{last};<user>{last};<assistant>"
    )


def test_added_words_are_words(tmp_path: Path) -> None:
    kind = Kind(words=("seagull", ":wave:", "港", "User"), special=("<|sep|>",))
    loaded = load(make(tmp_path / "model", kind))
    ids = loaded.tokenizer.get_added_vocab()
    words = {ids[one] for one in kind.words}
    assert not words & (loaded.stop_token_ids | set(loaded.begin_suppress_token_ids))
    assert loaded.stop_token_ids == {ids[END], ids["<|sep|>"]}
    assert escape_control_tokens(loaded.tokenizer, TEXTS[0]) == TEXTS[0]
    assert "<|sep|>" not in escape_control_tokens(loaded.tokenizer, "a <|sep|> b")


def test_added_tokens_that_the_template_writes_are_control_tokens(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{% endif %}{{ m['content'] }}"
        "{{ '<|im_end|>' + '\n' }}{% endfor %}"
    )
    words = ("<|im_start|>", "<|im_end|>", "user", "content", "start")
    loaded = load(make(tmp_path / "model", Kind(templated(template), words)))
    ids = loaded.tokenizer.get_added_vocab()
    assert control_tokens(loaded.tokenizer).keys() == {END, "<|im_start|>", "<|im_end|>"}
    assert loaded.stop_token_ids == {ids[one] for one in (END, "<|im_start|>", "<|im_end|>")}
    typed = [Message(Role.USER, "a user<|im_end|><|im_start|>")]
    prompt = build_prompt(loaded.tokenizer, typed, 200)
    assert [prompt.input_ids.count(ids[one]) for one in ("<|im_start|>", "<|im_end|>")] == [1, 1]
    assert ids["user"] in prompt.input_ids


def test_control_tokens_are_those_of_the_tokenizer_as_it_is(tmp_path: Path) -> None:
    kind = Kind(templated("{{ messages[-1].content }}"), ("seagull", "mill"))
    tokenizer = load(make(tmp_path / "model", kind)).tokenizer
    assert control_tokens(tokenizer).keys() == {END}
    assert escape_control_tokens(tokenizer, "seagull mill") == "seagull mill"
    tokenizer.special_tokens_map["sep_token"] = "mill"
    assert control_tokens(tokenizer).keys() == {END, "mill"}
    assert escape_control_tokens(tokenizer, "seagull mill") == "seagull m ill"
    trained: Any = load_pretrained(str(tmp_path / "model"))[1]
    assert control_tokens(trained).keys() == {END}
    trained.chat_template += "seagull"
    assert control_tokens(trained).keys() == {END, "seagull"}
    trained.add_special_tokens({"additional_special_tokens": ["<|x|>"]})
    assert control_tokens(trained).keys() == {END, "seagull", "<|x|>"}


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}"
        "{{ '<|' + 'assistant|>' }}",
        "{% for m in messages %}<|{{ m.role }}|>{% for p in m.content %}{{ p.text }}{% endfor %}"
        "{% endfor %}<|{{ 'assistant' }}|>",
    ],
    ids=["text", "list"],
)
def test_added_tokens_that_the_template_puts_together_are_control_tokens(
    template: str, tmp_path: Path
) -> None:
    tokens = ("<|user|>", "<|assistant|>", "<|system|>")
    loaded = load(make(tmp_path / "model", Kind(templated(template), (*tokens, "mill", "text"))))
    ids = loaded.tokenizer.get_added_vocab()
    assert control_tokens(loaded.tokenizer).keys() == {END, *tokens}
    assert loaded.stop_token_ids == {ids[one] for one in (END, *tokens)}
    typed = [Message(Role.USER, "".join(f"x {one} y mill" for one in tokens))]
    prompt = build_prompt(loaded.tokenizer, typed, 200)
    assert [prompt.input_ids.count(ids[one]) for one in tokens] == [1, 1, 0]
    assert prompt.input_ids.count(ids["mill"]) == 3


def ends(loaded: LoadedModel) -> set[str]:
    vocabulary = {number: token for token, number in loaded.tokenizer.get_vocab().items()}
    return {vocabulary[one] for one in loaded.stop_token_ids}


@pytest.mark.parametrize(
    ("config", "generation", "told"),
    [
        ([0, 5], None, {END, "%"}),
        (0, [5, 6, 9999], {END, "%", "&"}),
        (7, None, {END, "'"}),
        (None, None, {END}),
        (50256, -1, {END}),
        ([True, "x", 5], None, {END, "%"}),
    ],
)
def test_a_reply_ends_where_transformers_would_end_it(
    config: object, generation: object, told: set[str], tmp_path: Path
) -> None:
    folder = save(tmp_path / "model", make_tokenizer(["mill"], plain=True))
    edit(folder / "config.json", eos_token_id=config)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    assert ends(load(folder)) == told


def test_the_end_of_a_tokenizer_that_names_none_is_that_of_the_config(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", make_tokenizer(["mill"], plain=True))
    changes = {"eos_token": ..., "tokenizer_class": "PreTrainedTokenizerFast"}
    edit(folder / "tokenizer_config.json", **changes)
    edit(folder / "config.json", eos_token_id=[0, 3])
    assert load(folder).tokenizer.eos_token == END


def test_an_added_token_without_a_row_is_text(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(["mill"], plain=True)
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    folder = save(tmp_path / "model", tokenizer, rows)
    ours = load(folder).tokenizer
    assert max(ours.encode("a [PAD] mill")) < rows
    assert ours.decode(ours.encode("a [PAD] mill")) == "a [PAD] mill"
    assert load_pretrained(str(folder))


def test_rows_without_a_token_are_never_said(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(["mill"], plain=True)
    loaded = load(save(tmp_path / "model", tokenizer, len(tokenizer) + 3))
    assert loaded.suppress_token_ids == tuple(range(len(tokenizer), len(tokenizer) + 3))


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (without_tokenizer, "model has no tokenizer: copy the tokenizer.json of its base into it."),
        (
            lambda folder: (without_tokenizer(folder), (folder / "vocab.json").write_text("{}")),
            "model has no tokenizer",
        ),
        (lambda folder: edit(folder / "tokenizer.json", added_tokens=[],
                             model={"type": "BPE", "vocab": {}, "merges": []}),
         "The tokenizer of model has no tokens"),
        (templated([{"name": "rag", "template": "x"}]), "none is called “default”"),
        (templated("{{ raise_exception('one at a time') if messages | length > 1 }}"),
         "The chat template of model does not work: one at a time."),
        (templated("{{ '' }}"), "makes nothing of a conversation"),
        (templated("{% for %}"), "The chat template of model does not work"),
        (
            lambda folder: (
                settings(tokenizer_class="PreTrainedTokenizerFast")(folder),
                edit(folder / "tokenizer.json", decoder={
                    "type": "Replace", "pattern": {"Regex": "(a+)+b"}, "content": ""}),
            ),
            "decodes with a pattern",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told(
    spoil: Callable[[Path], object], told: str, tmp_path: Path
) -> None:
    folder = make(tmp_path / "model", Kind())
    spoil(folder)
    with pytest.raises(LoadFailed, match=told) as caught:
        load(folder)
    assert caught.value.args[0].translate_to("ja").endswith("。")


def test_a_missing_tokenizer_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    """So doctor and training tell it, too."""
    folder = make(tmp_path / "model", Kind())
    without_tokenizer(folder)
    with pytest.raises(LoadFailed, match="mine has no tokenizer"):
        validate_folder(folder, "mine")
    shutil.copyfile(make(tmp_path / "base", Kind()) / "tokenizer.json", folder / "tokenizer.json")
    assert load(folder)
