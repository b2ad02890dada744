"""From a checkpoint folder or a Hub id to a folder that is ready to run (`model.built`).

`built` finds it by the hash of the checkpoint's files, or makes it in a process of its own, at the
lowest priority: the one who waits for it does not import onnx, and replies go on at their speed.
Every failure becomes LoadFailed with a sentence.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import HFValidationError
from jinja2 import TemplateError
from safetensors import SafetensorError

from data.errors import NO_ROOM
from model.built import META, TOKENIZER, WEIGHTS, Meta
from model.chat import HALF, PLAIN_TEMPLATE, stop_strings
from model.device import is_out_of_memory, processor
from model.errors import LoadFailed
from model.settings import LOG_FORMAT
from model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from model.graph import Array, Shape

log = logging.getLogger("model.build")

VERSION = "1"
"""Of what is built: another one builds all models anew."""
KEPT = 4 << 30
"""Bytes that are kept; what was not used for the longest time goes first."""
FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
"""What a checkpoint is made of. Nothing else is downloaded or read."""
ASIDE = ("history.json", "manifest.json", "generation_config.json")
"""Files beside a checkpoint that change nothing of what it says."""
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh")
CHUNK = 1 << 20
START = """
import os
if hasattr(os, "nice"):
    os.nice(12)
from model.build import main
main()
"""
"""The child gives way to replies from its first line on; they keep nearly all of their speed."""
QUICK = 64 << 20
"""Bytes of a checkpoint up to which its hash is computed beside replies, without a child."""
STALE_S = 3600.0
"""Seconds after which a folder that is still being made was left by a build that was killed."""
UNREADABLE = (
    SafetensorError,
    HFValidationError,
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    MemoryError,
)
"""What the libraries raise for a folder or a Hub id that they cannot make a model of."""


def built(source: str, cache: Path, precision: str) -> Path:
    """The folder for a model, made now if there is none. `precision`: int8, fp32 or torch.

    Raises:
        LoadFailed: the sentence says why, and what to do where there is something to do.
    """
    if (folder := _find(Path(source), cache, precision)) is not None:
        return folder
    level = str(logging.getLogger().getEffectiveLevel())
    command = [sys.executable, "-c", START, source, str(cache), precision, level]
    root = str(Path(__file__).parents[1])
    paths = filter(None, [root, os.environ.get("PYTHONPATH")])
    child = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"},
        creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
        check=False,
    )
    lines = child.stdout.decode().splitlines()
    answer: dict[str, str] = json.loads(lines[-1]) if lines else {}
    if "folder" in answer:
        return Path(answer["folder"])
    raise LoadFailed(answer.get("reason", f"{name(source)} could not be made ready to run."))


def _find(checkpoint: Path, cache: Path, precision: str) -> Path | None:
    """The folder that was built of these very files, if it can be found in a moment."""
    try:
        if sum(path.stat().st_size for path in _files(checkpoint)) > QUICK:
            return None
        folder = cache / _key(checkpoint, precision)
        os.utime(folder)
    except OSError:
        return None  # it is not there; or whoever builds it will say why
    return folder if (folder / META).is_file() else None


def _key(checkpoint: Path, precision: str) -> str:
    """A name that no other checkpoint has: the hash of its files and of how they are built."""
    digest = hashlib.sha256(f"{VERSION} {precision} {processor()}".encode())
    for path in sorted(_files(checkpoint)):
        digest.update(f"\n{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                digest.update(piece)
    return f"{digest.hexdigest()[:32]}-{precision}"


def _files(checkpoint: Path) -> Iterator[Path]:
    for pattern in FILES:
        yield from (path for path in checkpoint.glob(pattern) if path.name not in ASIDE)


def name(source: str) -> str:
    """What a person calls it: the folder's name, or the Hub id."""
    return Path(source).name if Path(source).is_absolute() else source


def why(source: str, error: Exception) -> str:
    """A sentence without the library's words: those are for the operator's log."""
    log.warning("loading %s failed: %s", source, error)
    who, folder = name(source), Path(source)
    if is_out_of_memory(error):
        return f"There is not enough memory to load {who}."
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return f"The disk is too full to make {who} ready to run: free some space, then try again."
    if isinstance(error, PermissionError) and error.filename is not None:
        return f"{error.filename} cannot be read or written: give the bot permission."
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        return f"{who} is no model folder: it has no weights as safetensors."
    if folder.exists():
        return f"{who} is damaged, or not a GPT-2 model."
    if folder.is_absolute():
        return f"There is no model folder {who}."
    return (
        f"{who} cannot be had: it is neither on this machine nor can the Hugging Face Hub be "
        "reached for it. Check the name and the connection."
    )


# --- in the child --------------------------------------------------------------------------------


def build(source: str, cache: Path, precision: str) -> Path:
    """Make the folder, unless it is there; `cache` is made as well.

    Raises:
        LoadFailed: the sentence says why.
    """
    try:
        checkpoint = _checkpoint(source)
        folder = cache / _key(checkpoint, precision)
        if not (folder / META).is_file():
            cache.mkdir(parents=True, exist_ok=True)
            _tidy(cache)
            _build(checkpoint, folder, source, precision)
        os.utime(folder)
        return folder
    except TemplateError as e:
        raise LoadFailed(f"The chat template of {name(source)} does not work: {e}.") from e
    except UNREADABLE as e:
        raise LoadFailed(why(source, e)) from e


def _build(checkpoint: Path, folder: Path, source: str, precision: str) -> None:
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "gpt2":
        kind = config["model_type"]
        raise LoadFailed(f"{name(source)} is a {kind} model; only GPT-2 can be used.")
    activation = config.get("activation_function", ACTIVATIONS[0])
    if activation not in ACTIVATIONS:
        raise LoadFailed(f"{name(source)} uses {activation}, which GPT-2 models do not.")
    if config["n_embd"] % (8 * config["n_head"]):
        raise LoadFailed(f"The attention heads of {name(source)} are not a multiple of 8 wide.")
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as aside:
        half_made = Path(aside) / folder.name
        half_made.mkdir()
        tokenizer = _tokenizer(checkpoint, config, source, half_made)
        weights = Weights(checkpoint, config, source)
        shape = _shape(config, precision)
        if precision != "torch":
            from model.graph import write_graph

            write_graph(weights, shape, half_made)
        _meta(checkpoint, config, shape, weights, tokenizer, half_made).save(half_made)
        with contextlib.suppress(OSError):  # somebody else was quicker
            half_made.replace(folder)


def _checkpoint(source: str) -> Path:
    if Path(source).is_absolute() or Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, allow_patterns=list(FILES)))


def _shape(config: Mapping[str, Any], precision: str) -> Shape:
    from model.graph import Shape

    return Shape(
        layers=config["n_layer"],
        heads=config["n_head"],
        width=config["n_embd"],
        epsilon=config.get("layer_norm_epsilon", 1e-5),
        by_layer=bool(config.get("scale_attn_by_inverse_layer_idx")),
        precision=precision,
        top=largest_weight() if precision == "int8" else 127,
    )


def largest_weight() -> int:
    """127 where byte products are summed exactly, else 63 (see `Shape.top`), found by trying."""
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    extreme = {
        "weights": np.full((64, 64), 127, np.int8),
        "rows": np.full((1, 64), 255, np.uint8),
        "centre": np.array(128, np.uint8),
    }
    product = helper.make_node("MatMulInteger", ["rows", "weights", "centre"], ["sums"])
    graph = helper.make_graph(
        [product],
        "trial",
        [helper.make_tensor_value_info("rows", TensorProto.UINT8, [1, 64])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [1, 64])],
        [numpy_helper.from_array(extreme[one], one) for one in ("weights", "centre")],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    [sums] = session.run(None, {"rows": extreme["rows"]})
    return 127 if bool((np.asarray(sums) == (255 - 128) * 127 * 64).all()) else 63


def _meta(
    checkpoint: Path,
    config: Mapping[str, Any],
    shape: Shape,
    weights: Weights,
    tokenizer: Tokenizer,
    folder: Path,
) -> Meta:
    stops = stop_strings(tokenizer)
    ids = sorted(tokenizer.get_vocab().values())
    texts = tokenizer.decode_each(ids)
    eos = tokenizer.get_vocab()[tokenizer.eos_token]
    ends = {eos, *tokenizer.get_added_vocab().values()}
    on_a_stop = {n for n, text in zip(ids, texts, strict=True) if any(s in text for s in stops)}
    file = folder / WEIGHTS
    return Meta(
        checkpoint=str(checkpoint),
        parameters=weights.parameters,
        positions=config["n_positions"],
        vocabulary=config["vocab_size"],
        layers=shape.layers,
        heads=shape.heads,
        head_size=shape.head_size,
        precision=shape.precision,
        weight_bytes=file.stat().st_size if file.exists() else 4 * weights.parameters,
        eos_token=tokenizer.eos_token,
        chat_template=tokenizer.chat_template,
        stops=list(stops),
        ends=sorted(ends),
        mute=sorted(ends | on_a_stop),
        fragments=[n for n, text in zip(ids, texts, strict=True) if HALF in text],
    )


class Weights(Mapping[str, "Array"]):
    """The tensors of a checkpoint in float32, each read when it is asked for.

    Raises:
        LoadFailed: some are missing; or, when it is read, one has numbers that are not finite.
        ValueError: a tensor has not the shape that the configuration says.
    """

    def __init__(self, checkpoint: Path, config: Mapping[str, Any], source: str) -> None:
        from safetensors import safe_open

        self._source = source
        self._files: dict[str, Path] = {}
        shapes: dict[str, list[int]] = {}
        files = sorted(checkpoint.glob("*.safetensors"))
        if not files:
            raise FileNotFoundError(f"{checkpoint} has no safetensors")
        for path in files:
            with safe_open(path, framework="np") as file:
                for key in file.keys():  # noqa: SIM118 (it is no mapping)
                    self._files[key.removeprefix("transformer.")] = path
                    shapes[key.removeprefix("transformer.")] = file.get_slice(key).get_shape()
        wanted = expected_shapes(config)
        self._files = {key: path for key, path in self._files.items() if key in wanted}
        if wanted.keys() - shapes.keys():
            raise LoadFailed(f"The weights of {name(source)} are not complete.")
        for key, shape in wanted.items():
            if list(shape) != shapes[key]:
                raise ValueError(f"{key} has the shape {shapes[key]}, not {shape}")
        self.parameters = sum(math.prod(shape) for shape in wanted.values())

    def __getitem__(self, key: str) -> Array:
        import numpy as np

        array = _read(self._files[key], key)
        if not np.isfinite(array).all():
            who = name(self._source)
            raise LoadFailed(f"{who} is broken: it has weights that are not finite numbers.")
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _read(path: Path, key: str) -> Array:
    """A tensor as float32; numpy has no bfloat16, so torch reads that."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        whole = key if key in file.keys() else f"transformer.{key}"  # noqa: SIM118
        if file.get_slice(whole).get_dtype() != "BF16":
            array: Array = file.get_tensor(whole).astype("float32", copy=False)
            return array
    with safe_open(path, framework="pt") as file:
        exact: Array = file.get_tensor(whole).float().numpy()
        return exact


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a GPT-2, by the name that transformers gives it, and its shape."""
    width, inner = config["n_embd"], config.get("n_inner") or 4 * config["n_embd"]
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (config["vocab_size"], width),
        "wpe.weight": (config["n_positions"], width),
    }
    if not config.get("tie_word_embeddings", True):
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    products = {
        "attn.c_attn": (width, 3 * width),
        "attn.c_proj": (width, width),
        "mlp.c_fc": (width, inner),
        "mlp.c_proj": (inner, width),
    }
    for n in range(config["n_layer"]):
        for part, (rows, columns) in products.items():
            shapes |= {f"h.{n}.{part}.weight": (rows, columns), f"h.{n}.{part}.bias": (columns,)}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{n}.{norm}.{part}": (width,) for part in ("weight", "bias")}
    return shapes | {f"ln_f.{part}": (width,) for part in ("weight", "bias")}


def _tokenizer(checkpoint: Path, config: Mapping[str, Any], source: str, folder: Path) -> Tokenizer:
    """The checkpoint's tokenizer, which is also written into `folder`."""
    file = folder / TOKENIZER
    if (checkpoint / TOKENIZER).is_file():
        shutil.copyfile(checkpoint / TOKENIZER, file)
    else:
        _convert(checkpoint, file)
    settings = _settings(checkpoint)
    template = _template(checkpoint, settings)
    tokenizer = Tokenizer(file, eos_token="", chat_template=template)
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    if max(by_id) >= config["vocab_size"]:
        raise LoadFailed(f"The tokenizer of {name(source)} has more tokens than its model.")
    eos = _text(settings.get("eos_token")) or by_id.get(config.get("eos_token_id", -1), "")
    if eos not in tokenizer.get_vocab():
        raise LoadFailed(f"The tokenizer of {name(source)} has no end-of-text token.")
    tokenizer.eos_token = eos
    return tokenizer


def _convert(checkpoint: Path, file: Path) -> None:
    """A tokenizer in an older form (vocab.json and merges.txt, sentencepiece) as one file."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    tokenizer.backend_tokenizer.save(str(file))


def _settings(checkpoint: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for part in ("special_tokens_map.json", "tokenizer_config.json"):
        if (checkpoint / part).is_file():
            settings |= json.loads((checkpoint / part).read_text(encoding="utf-8"))
    return settings


def _template(checkpoint: Path, settings: Mapping[str, Any]) -> str:
    file = checkpoint / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    return str(settings.get("chat_template") or PLAIN_TEMPLATE)


def _text(token: str | Mapping[str, str] | None) -> str:
    """A token as it is written in tokenizer_config.json: a text, or an object with one."""
    return token["content"] if isinstance(token, Mapping) else token or ""


def _tidy(cache: Path) -> None:
    """Remove what was not used for long, and what a build left that was killed."""
    kept = 0
    ages = {folder: time.time() - _used(folder) for folder in cache.iterdir()}
    for folder in sorted(ages, key=ages.__getitem__):
        half_made = folder.name.startswith(".")
        kept += 0 if half_made else sum(one.stat().st_size for one in folder.glob("*"))
        if ages[folder] > STALE_S if half_made else kept > KEPT:
            shutil.rmtree(folder, ignore_errors=True)


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another build was quicker
        return 0


def main() -> None:
    """Build what the command line says; one JSON line tells the folder, or the reason why not."""
    source, cache, precision, level = sys.argv[1:]
    logging.basicConfig(level=int(level), format=LOG_FORMAT)
    try:
        answer = {"folder": str(build(source, Path(cache), precision))}
    except LoadFailed as e:
        answer = {"reason": str(e)}
    sys.stdout.write(f"{json.dumps(answer)}\n")
