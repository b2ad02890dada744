"""Converts a sentencepiece model, as many Japanese GPT-2 models have, to a fast tokenizer.

Knows the files `*.model` (https://github.com/google/sentencepiece, "unigram" ones). Gives the ids
that sentencepiece itself gives. The class T5Tokenizer, which such folders name, would not: it takes
its third piece for the unknown one, and that is the end of a text in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers

from model.tokenizer import INNER_SPACES, OUTER_SPACES, SENTENCEPIECE_SPACE

MODEL_PATTERN = "*.model"
PIECE_NORMAL, PIECE_CONTROL = 1, 3
"""Kinds of pieces (sentencepiece_model.proto)."""
MODEL_TYPE_UNIGRAM = 1
MAX_PIECE_CHARS = 1000
"""Limit of a piece; trained ones have up to 16 characters, but longer ones can be added."""
SPECIAL_TOKENS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def find_sentencepiece(folder: Path) -> Path | None:
    """The sentencepiece model of a folder; None without one."""
    return next(iter(sorted(folder.glob(MODEL_PATTERN))), None)


def load_sentencepiece(file: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer; `settings` are those of tokenizer_config.json.

    Raises:
        ValueError: the file is not a unigram sentencepiece model.
    """
    model = _parse(file)
    try:
        return _build_tokenizer(model, settings)
    except Exception as e:  # the library has no class of its own for what does not fit
        raise ValueError(f"{file} is no sentencepiece model: {e}") from e


def _parse(file: Path) -> Any:
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    form: Any = sentencepiece_model_pb2  # its classes are made when it is imported
    model = form.ModelProto()
    try:
        model.ParseFromString(file.read_bytes())
    except DecodeError as e:
        raise ValueError(f"{file} is no sentencepiece model") from e
    if not model.pieces or model.trainer_spec.model_type != MODEL_TYPE_UNIGRAM:
        raise ValueError(f"{file} is no unigram model of sentencepiece")
    texts = {one.piece for one in model.pieces}
    if len(texts) < len(model.pieces) or not all(0 < len(one) <= MAX_PIECE_CHARS for one in texts):
        raise ValueError(f"{file} has pieces that are empty, twice there or too long")
    return model


def _build_tokenizer(model: Any, settings: Mapping[str, Any]) -> Tokenizer:
    trained, spec = model.trainer_spec, model.normalizer_spec
    scores = [(one.piece, one.score) for one in model.pieces]
    tokenizer = Tokenizer(
        models.Unigram(scores, unk_id=trained.unk_id, byte_fallback=trained.byte_fallback)
    )
    steps: list[Any] = []
    if settings.get("do_lower_case") or not _has_capitals(model.pieces):
        steps.append(normalizers.Lowercase())
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
        if "nfkc" in spec.name:  # it leaves letters of two parts as they are, such as ｶﾞ
            steps.append(normalizers.NFC())
    if spec.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(OUTER_SPACES), ""))
        steps.append(normalizers.Replace(Regex(INNER_SPACES), " "))
    steps.append(normalizers.Replace(" ", SENTENCEPIECE_SPACE))
    back: list[Any] = [
        decoders.Replace(SENTENCEPIECE_SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SENTENCEPIECE_SPACE))
        back.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence(back)
    tokenizer.add_special_tokens(
        [
            AddedToken(one, normalized=False, special=True)
            for one in _special_tokens(model, settings)
        ]
    )
    return tokenizer


def _has_capitals(pieces: Any) -> bool:
    """Whether any piece has a capital; a model without was trained on lowercase text."""
    return any(one.type == PIECE_NORMAL and one.piece != one.piece.lower() for one in pieces)


def _special_tokens(model: Any, settings: Mapping[str, Any]) -> list[str]:
    """The pieces that represent no text, in the order of their ids."""
    named = set(special_tokens(settings).values())
    unknown = model.trainer_spec.unk_id
    return [
        one.piece
        for number, one in enumerate(model.pieces)
        if one.type == PIECE_CONTROL or number == unknown or one.piece in named
    ]


def special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """The tokens to which tokenizer_config.json gives a role, by transformers' names."""
    named = {f"{one}_token": token_text(settings.get(f"{one}_token")) for one in SPECIAL_TOKENS}
    return {name: text for name, text in named.items() if text}


def token_text(token: object) -> str:
    """The text of a token in tokenizer_config.json, where it is a string or an object."""
    return str(token["content"]) if isinstance(token, Mapping) else str(token or "")
