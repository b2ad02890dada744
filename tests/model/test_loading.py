"""A model is loaded whole or not at all, and the sentence says why not."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.errors import LoadFailed
from model.loading import LoadedModel
from model.registry import EMBEDDED_FOLDER
from tests.model.conftest import load
from tests.model_folders import make_model_folder


def why_not(source: Path | str) -> str:
    with pytest.raises(LoadFailed) as caught:
        load(source)
    assert str(caught.value).endswith(".")
    assert caught.value.args[0].translate_to("ja").endswith("。")
    assert not Path(source).is_absolute() or str(source) not in str(caught.value)
    return str(caught.value)


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_facts_of_the_embedded_model(tiny: LoadedModel) -> None:
    assert tiny.info.source == str(EMBEDDED_FOLDER)
    assert 5_000_000 < tiny.info.parameters < 6_000_000
    assert (tiny.info.positions, tiny.info.vocabulary) == (256, 5120)
    assert tiny.info.dtype == "fp32"
    assert tiny.stop_strings == ()
    assert tiny.stop_token_ids == {0, 1, 2}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert why_not(tmp_path / "nowhere") == "There is no model folder nowhere."


def test_a_hub_that_cannot_be_reached() -> None:
    assert "nor can the Hugging Face Hub be reached" in why_not("gpt2-medium")
    assert "nor can the Hugging Face Hub be reached" in why_not("no such name")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    assert "no weights as safetensors" in why_not(tmp_path)


def test_another_architecture(tmp_path: Path) -> None:
    make_model_folder(tmp_path)
    edit_config(tmp_path, model_type="llama")
    assert why_not(tmp_path) == f"{tmp_path.name} is a llama model; only GPT-2 can be used."


def test_weights_cut_short(tmp_path: Path) -> None:
    weights = make_model_folder(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "damaged" in why_not(tmp_path)
    weights.write_bytes(b"")
    assert "damaged" in why_not(tmp_path)


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    path = make_model_folder(tmp_path) / "model.safetensors"
    weights = load_file(path)
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    assert "not complete" in why_not(tmp_path)


def test_weights_of_another_shape(tmp_path: Path) -> None:
    make_model_folder(tmp_path)
    edit_config(tmp_path, n_embd=64)
    assert "damaged" in why_not(tmp_path)


def test_weights_that_are_not_numbers(tmp_path: Path) -> None:
    path = make_model_folder(tmp_path) / "model.safetensors"
    weights = load_file(path)
    weights["transformer.ln_f.weight"] *= torch.nan
    save_file(weights, path, metadata={"format": "pt"})
    assert "not finite" in why_not(tmp_path)


def test_pickled_weights_are_not_opened(tmp_path: Path) -> None:
    path = make_model_folder(tmp_path) / "model.safetensors"
    torch.save(load_file(path), tmp_path / "pytorch_model.bin")
    path.unlink()
    assert "no weights as safetensors" in why_not(tmp_path)


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    make_model_folder(tmp_path / "other", says="one two three")
    make_model_folder(tmp_path / "model")
    (tmp_path / "other" / "tokenizer.json").replace(tmp_path / "model" / "tokenizer.json")
    assert "more tokens than its model" in why_not(tmp_path / "model")


def test_a_template_that_does_not_work(tmp_path: Path) -> None:
    template = make_model_folder(tmp_path) / "chat_template.jinja"
    template.write_text("{{ messages[0].content.nothing.at_all }}")
    assert "chat template" in why_not(tmp_path)


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    make_model_folder(tmp_path)
    edit_config(tmp_path, model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    why_not(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_models_are_loaded_in_threads_side_by_side(folders: Path) -> None:
    results: list[LoadedModel] = []
    threads = [
        threading.Thread(target=lambda name=name: results.append(load(folders / name)))
        for name in 4 * ["red", "plain", "random"]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(threads)
