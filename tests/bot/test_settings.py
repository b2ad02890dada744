"""The settings: defaults, where they come from, and the sentence for each wrong value."""

from __future__ import annotations

from pathlib import Path

import pytest
from dotenv import dotenv_values

from bot.settings import (
    Settings,
    SettingsError,
    load_settings,
    operator_language,
    prepare_home,
    sampling_params,
)
from model.sampling import SamplingParams

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and none of this machine's variables."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sentence_for(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


def test_defaults(place: Path) -> None:
    settings = load_settings()
    assert settings.discord_token is None
    assert settings.gpt2bot_home == place / "var"
    assert (settings.default_model, settings.models) == (None, {})
    assert settings.own_default_model == "gpt2"
    assert settings.context_messages == 5
    assert sampling_params(settings) == SamplingParams()
    assert (settings.threads, settings.log_level) == (None, "INFO")
    assert (settings.slow_reply_s, settings.author_share) == (3.0, 0.5)
    assert (settings.training_threads, settings.accelerate_config) == (None, None)
    assert settings.checkpoints_mb == 20_000
    assert (settings.learn_from_chat, settings.retention_days) == (False, 30)
    assert settings.reply_buttons


def test_environment_goes_before_the_file_and_overrides_before_both(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / ".env").write_text("SEED=1\nTOP_K=11\nTHREADS=3\nSOMETHING_ELSE=x\n")
    monkeypatch.setenv("TOP_K", "12")
    monkeypatch.setenv("THREADS", "4")
    settings = load_settings(threads=5)
    assert (settings.seed, settings.top_k, settings.threads) == (1, 12, 5)


def test_all_of_sampling_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "MAX_NEW_TOKENS": "9",
        "TEMPERATURE": "0",
        "TOP_K": "0",
        "TOP_P": "1",
        "REPETITION_PENALTY": "1.5",
        "SEED": "7",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert sampling_params(load_settings()) == SamplingParams(
        max_new_tokens=9, temperature=0, top_k=0, top_p=1, repetition_penalty=1.5, seed=7
    )


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_an_empty_value_means_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = load_settings()
    monkeypatch.setenv(name, "")
    assert load_settings() == default


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_file_from_notepad_or_powershell_is_read(place: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""  # Python writes those of the others
    text = f"{mark}SEED=1\r\nTOP_K=11\r\nBOT_LANGUAGE=ja\r\n"
    (place / ".env").write_bytes(text.encode(encoding))
    settings = load_settings()
    assert (settings.seed, settings.top_k) == (1, 11)
    assert operator_language() == "ja"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_from_powershell_is_read(place: Path, encoding: str) -> None:
    (place / ".env").write_bytes("DISCORD_TOKEN=abc.def\r\nTOP_K=11\r\n".encode(encoding))
    settings = load_settings()
    assert settings.discord_token.get_secret_value() == "abc.def"
    assert settings.top_k == 11


def test_a_file_that_is_no_text(place: Path) -> None:
    (place / ".env").write_bytes(b"SEED=\xff\xfe")
    with pytest.raises(SettingsError, match=r"\.env is neither UTF-8 nor UTF-16 text: save"):
        load_settings()


def test_the_token_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "very.hidden")
    settings = load_settings()
    assert "hidden" not in repr(settings)
    assert settings.discord_token is not None
    assert settings.discord_token.get_secret_value() == "very.hidden"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().seed = 3  # type: ignore[misc]


def test_models_are_names_and_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path.home()
    monkeypatch.setenv("MODELS", " mine = /srv/a=b , distil=distilbert/distilgpt2,own=~/m, ")
    monkeypatch.setenv("DEFAULT_MODEL", "distil")
    assert load_settings().models == {
        "mine": "/srv/a=b",
        "distil": "distilbert/distilgpt2",
        "own": str(home / "m"),
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CONTEXT_MESSAGES", "many", "must be a whole number from 1 to 50"),
        ("CONTEXT_MESSAGES", "0", "must be a whole number from 1 to 50"),
        ("CONTEXT_MESSAGES", "51", "must be a whole number from 1 to 50"),
        ("MAX_NEW_TOKENS", "1.5", "must be a whole number from 1 to 400"),
        ("TEMPERATURE", "hot", "must be a number from 0 to 2"),
        ("TEMPERATURE", "nan", "must be a number from 0 to 2"),
        ("TOP_K", "-1", "must be a whole number of at least 0"),
        ("TOP_P", "0", "must be a number above 0 and up to 1"),
        ("REPETITION_PENALTY", "inf", "must be a number from 1 to 2"),
        ("SEED", "-1", "must be a whole number from 0 to 4294967295"),
        ("REPLY_BUTTONS", "perhaps", "must be true or false"),
        ("THREADS", "0", "must be a whole number of at least 1"),
        ("SLOW_REPLY_S", "-1", "must be a number of at least 0"),
        ("SLOW_REPLY_S", "inf", "must be a number of at least 0"),
        ("TRAINING_THREADS", "0", "must be a whole number of at least 1"),
        ("AUTHOR_SHARE", "0", "must be a number above 0 and up to 1"),
        ("AUTHOR_SHARE", "1.5", "must be a number above 0 and up to 1"),
        ("CHECKPOINTS_MB", "99", "must be a whole number of at least 100"),
        ("LEARN_FROM_CHAT", "perhaps", "must be true or false"),
        ("RETENTION_DAYS", "0", "must be a whole number from 1 to 36500"),
        ("STALE_S", "0", "must be a number above 0"),
        ("CLUSTER_TRAININGS", "0", "must be a whole number from 1 to 64"),
        ("CLUSTER_FALLBACK", "perhaps", "must be true or false"),
        ("LOG_LEVEL", "LOUD", "must be one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_must_be(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = f"{name} is “{value}”, but it {expected}."
    assert sentence_for(monkeypatch, name, value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("mine", "“mine” should be name=folder-or-hub-id."),
        ("a=b,=c", "“=c” should be name=folder-or-hub-id."),
        ("a=", "“a=” should be name=folder-or-hub-id."),
        ("a=b,a=c", "the name “a” is taken, choose another one."),
        ("tiny=/srv/model", "the name “tiny” is taken, choose another one."),
    ],
)
def test_wrong_models(value: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sentence_for(monkeypatch, "MODELS", value) == f"MODELS is wrong: {expected}"


@pytest.mark.parametrize(
    "address", ["local", "auto", "ray://head.example.org:10001", "10.0.0.5:6379", "[::1]:6379"]
)
def test_addresses_of_a_cluster(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().ray_address is None
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert load_settings().ray_address == address


@pytest.mark.parametrize("address", ["head", "http://head:8265", "ray://head", "10.0.0.5:x"])
def test_wrong_addresses_of_a_cluster(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = sentence_for(monkeypatch, "RAY_ADDRESS", address)
    assert said.startswith(f"RAY_ADDRESS is wrong: “{address}” should be local, auto, or")


@pytest.mark.parametrize(
    ("value", "expected"), [("2:6", (2, 6)), (" 1 : 512 ", (1, 512)), ("4", (4, 4))]
)
def test_bounds_of_the_replicas(
    value: str, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().cluster_replicas == (1, 8)
    monkeypatch.setenv("CLUSTER_REPLICAS", value)
    assert load_settings().cluster_replicas == expected


@pytest.mark.parametrize("value", ["6:2", "0:3", "1:513", "2:", ":2", "many", "-1:2"])
def test_wrong_bounds_of_the_replicas(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = sentence_for(monkeypatch, "CLUSTER_REPLICAS", value)
    assert said.startswith(f"CLUSTER_REPLICAS is wrong: “{value}” should be the least and the most")


def test_the_default_model_follows_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOT_LANGUAGE", "ja")
    assert load_settings().own_default_model == "tiny-ja"
    monkeypatch.setenv("DEFAULT_MODEL", "gpt2-medium")
    assert load_settings().own_default_model == "gpt2-medium"


@pytest.mark.parametrize("name", ["tiny", "tiny-ja"])
def test_no_model_takes_the_name_of_an_embedded_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = sentence_for(monkeypatch, "MODELS", f"{name}=/srv/mine")
    assert said == f"MODELS is wrong: the name “{name}” is taken, choose another one."


def test_an_unknown_default_model_lists_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "mine=/srv/mine")
    said = sentence_for(monkeypatch, "DEFAULT_MODEL", "gpt5")
    assert said.startswith("DEFAULT_MODEL is wrong: ")
    assert all(name in said for name in ("gpt5", "gpt2, gpt2-medium, mine, tiny, tiny-ja"))


def test_a_home_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    said = sentence_for(monkeypatch, "GPT2BOT_HOME", "~nobody-has-this-name/bot")
    assert said.startswith("GPT2BOT_HOME is wrong: ~nobody-has-this-name/bot")


def test_the_file_of_accelerate_must_be_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = sentence_for(monkeypatch, "ACCELERATE_CONFIG", "accelerate.yaml")
    file = place / "accelerate.yaml"
    assert said == (
        f"ACCELERATE_CONFIG is wrong: there is no file {file}; `accelerate config` writes one."
    )
    file.write_text("num_processes: 2\n")
    assert load_settings().accelerate_config == file


def test_prepare_home_makes_the_folders_and_leaves_nothing_else(place: Path) -> None:
    settings = load_settings(gpt2bot_home=place / "a" / "b")
    prepare_home(settings)
    prepare_home(settings)
    assert {one.name for one in (place / "a" / "b").iterdir()} == {"built", "checkpoints"}


@pytest.mark.parametrize("home", ["file", "file/below"])
def test_a_home_that_is_a_file(place: Path, home: str) -> None:
    (place / "file").write_text("mine")
    with pytest.raises(SettingsError, match=r"GPT2BOT_HOME is .*cannot write there \(Not a dir"):
        prepare_home(load_settings(gpt2bot_home=place / home))
    assert (place / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write")
def test_a_home_that_cannot_be_written() -> None:
    with pytest.raises(SettingsError, match=r"GPT2BOT_HOME is /proc, but the bot cannot write"):
        prepare_home(load_settings(gpt2bot_home="/proc"))


def test_the_example_names_every_setting_with_its_default() -> None:
    named = dotenv_values(EXAMPLE)
    assert set(named) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        empty = field.default in (None, {}, (), frozenset())
        assert named[name.upper()] == ("" if empty else str(field.default)), name


def test_the_example_can_be_used_as_it_is(place: Path) -> None:
    default = load_settings()
    (place / ".env").write_bytes(EXAMPLE.read_bytes())
    assert load_settings() == default


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://growth.example.org", "https://growth.example.org"),
        ("https://growth.example.org:8443/", "https://growth.example.org:8443"),
        ("http://localhost:8090", "http://localhost:8090"),
    ],
)
def test_a_public_address(address: str, kept: str) -> None:
    assert load_settings(web_url=address, web_port=8090).web_address == kept


@pytest.mark.parametrize(
    "address",
    [
        *("growth.example.org", "http://growth.example.org", "https://", "https://x:0"),
        *("https://[", "ftp://localhost", "https://growth.example.org/path", "javascript:alert(1)"),
        "https://growth.example.org?x=1",
    ],
)
def test_an_address_that_is_none_is_refused_in_a_sentence(address: str) -> None:
    with pytest.raises(SettingsError, match=r"^WEB_URL is wrong: “.*” should be https:// and"):
        load_settings(web_url=address)


def test_without_an_address_the_page_is_on_this_machine() -> None:
    assert load_settings(web_port=8090).web_address == "http://127.0.0.1:8090"


def test_the_client_secret_is_in_no_log() -> None:
    settings = load_settings(discord_token="a token", discord_client_secret=" a secret ")
    assert settings.secrets == ("a token", "a secret")
    assert "a secret" not in repr(settings)
