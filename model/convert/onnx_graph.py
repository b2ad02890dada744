"""Writes a GPT-2 checkpoint as an ONNX graph of ONNX Runtime's fused CPU operators.

Knows the architecture (Radford et al. 2019) and int8 quantization. Does not know checkpoints,
tokenizers or which row is whose. Imports onnx, so it stays out of the worker.

The tokens of all sequences lie in one line (T, width), so that a matrix is read once for all of
them and nothing is computed for padding; only the attention sees a row for each sequence (B, S).

int8: weights have one scale per column, activations one dynamic scale per row (vector-wise
quantization; Dettmers et al. 2022, "LLM.int8()", section 2.1). The rows of a batch share no scale,
so the logits of a sequence depend neither on the rest of the batch nor on the prefill chunks.

Adapters: a product x W becomes x W + (x A) B, where A and B are inputs that lie by row, as the
cache does. They are computed in fp32, whatever W is. Their rank is that of what is bound: 0 costs
little.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model.convert.activations import MICROSOFT_DOMAIN, OTHER_ACTIVATIONS, TANH_GELUS
from model.convert.artifact import ADAPTER_GRAPHS, GRAPH_FILE, WEIGHTS_FILE
from model.convert.checkpoint import Array
from model.convert.int8.folds import Fold, write_folds
from model.convert.shapes import EMBEDDING, HEAD
from model.runners.onnx_runner import ORT_ERRORS

PAGE_BYTES = 4096
"""Alignment of the weights, so that the file can be memory-mapped."""
MAX_INLINE_BYTES = 1024
"""Size up to which a tensor is stored in the graph itself."""
COLUMN_CHUNK = 4096
"""Columns that are quantized at a time, to bound the memory."""
ZERO_POINT, MAX_UINT8 = 128, 255
"""The uint8 that represents an activation of 0, and the largest one."""
HEAD_MULTIPLE = 8
"""The attention operator takes heads of a multiple of this width."""
UNUSED_INPUTS = 9 * [""]
"""Of the attention operator, between the lengths of the rows and their numbers of new tokens."""
LM_HEAD = "lm_head"
"""The graph's name of the last matrix; the others are called as the checkpoint calls them."""


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """The sizes and variants of a GPT-2. `max_int8_weight` is the largest quantized weight: 127, or
    63 on CPUs whose 16-bit sums of int8 products would saturate (AVX2, and AVX-512 without VNNI).
    `packs`: the attention takes sequences with different numbers of new tokens.
    """

    layers: int
    heads: int
    width: int
    epsilon: float
    activation: str
    scale_attn: bool
    scale_attn_by_layer: bool
    precision: str
    max_int8_weight: int = 127
    packs: bool = False

    @property
    def head_size(self) -> int:
        return self.width // self.heads

    @property
    def padded_head_size(self) -> int:
        """With zeros up to HEAD_MULTIPLE, which change no score."""
        return -(-self.head_size // HEAD_MULTIPLE) * HEAD_MULTIPLE


@dataclass(frozen=True, slots=True)
class Int8Plan:
    """What an int8 graph does not do alike for all matrices, by their names: those in `fp32` stay
    as they are, what those in `folds` read is folded by the graph itself, and for those in
    `zero_points` another uint8 than ZERO_POINT is an activation of 0. What those in `folded` read
    was folded into the weights before."""

    fp32: Set[str] = frozenset()
    folds: Mapping[str, Fold] = field(default_factory=dict)
    folded: Mapping[str, Fold] = field(default_factory=dict)
    zero_points: Mapping[str, int] = field(default_factory=dict)


def write_graph(
    weights: Mapping[str, Array], shape: GraphConfig, folder: Path, plan: Int8Plan | None = None
) -> None:
    """Write GRAPH_FILE, ADAPTER_GRAPHS and the WEIGHTS_FILE of all of them into `folder`; `weights`
    by transformers' names."""
    with (folder / WEIGHTS_FILE).open("wb") as file:
        graph = _GraphBuilder(file, shape, weights, plan or Int8Plan())
        _build_gpt2(graph)
        graph.save(folder / GRAPH_FILE)
        for name, matrices in ADAPTER_GRAPHS.items():
            graph.save(folder / name, matrices)
    if plan is not None:
        write_folds(plan.folded, folder)


def _build_gpt2(g: _GraphBuilder) -> None:
    """From `input_ids` and `position_ids` (T) to the `logits` (B, V) after each sequence's last."""
    shape = g.shape
    words = g.node("Gather", [g.weight(EMBEDDING), "input_ids"])
    places = g.node("Gather", [g.weight("wpe.weight"), "position_ids"])
    stream = g.node("Add", [words, places])
    norms = [f"h.{n}.ln_1" for n in range(shape.layers)] + ["ln_f"]
    x = g.layer_norm(stream, norms[0])
    for n in range(shape.layers):
        block = f"h.{n}"
        x = g.matmul(x, f"{block}.attn.c_attn")
        x = g.node("Add", [x, g.weight(f"{block}.attn.c_attn.bias")])
        x = g.attention(x, n)
        x = g.matmul(x, f"{block}.attn.c_proj")
        x, stream = g.add_and_norm(x, stream, f"{block}.attn.c_proj", f"{block}.ln_2")
        x = g.matmul(x, f"{block}.mlp.c_fc")
        x = g.activate(x, f"{block}.mlp.c_fc.bias")
        x = g.matmul(x, f"{block}.mlp.c_proj")
        x, stream = g.add_and_norm(x, stream, f"{block}.mlp.c_proj", norms[n + 1])
    g.lm_head(g.node("Gather", [x, "last_tokens"], axis=0))


class _GraphBuilder:
    """Nodes and tensors as they are made; each method returns the name of what it computes."""

    def __init__(
        self, file: Any, shape: GraphConfig, weights: Mapping[str, Array], plan: Int8Plan
    ) -> None:
        self.shape = shape
        self._plan = plan
        self._weights = weights
        self._file = file
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[TensorProto] = []
        self._names: set[str] = set()
        self._products: dict[str, tuple[str, str]] = {}

    def node(self, op: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        return self._node(op, inputs, [f"x{len(self._nodes)}"], domain, **attributes)

    def _node(
        self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any
    ) -> str:
        self._nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def weight(self, key: str) -> str:
        """A tensor of the checkpoint as it is, read and written once."""
        return key if key in self._names else self.initializer(key, self._read(key))

    def _read(self, key: str) -> Array:
        """A tensor of the checkpoint; those of the attention with the heads padded."""
        array, shape = self._weights[key], self.shape
        gap = shape.padded_head_size - shape.head_size
        if gap and ".attn.c_attn." in key:
            parts = array.reshape(*array.shape[:-1], 3, shape.heads, shape.head_size)
            padded = np.pad(parts, [(0, 0)] * (parts.ndim - 1) + [(0, gap)])
            return padded.reshape(*array.shape[:-1], -1)
        if gap and key.endswith(".attn.c_proj.weight"):
            parts = array.reshape(shape.heads, shape.head_size, -1)
            return np.pad(parts, [(0, 0), (0, gap), (0, 0)]).reshape(-1, array.shape[-1])
        return array

    def initializer(self, name: str, array: Array) -> str:
        """A constant: small ones in the graph, others in the file of weights."""
        if name in self._names:
            return name
        self._names.add(name)
        if array.nbytes <= MAX_INLINE_BYTES:
            self._tensors.append(numpy_helper.from_array(array, name))
            return name
        start = -(-self._file.tell() // PAGE_BYTES) * PAGE_BYTES
        self._file.seek(start)
        self._file.write(np.ascontiguousarray(array).data)
        proto = TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": WEIGHTS_FILE, "offset": start, "length": array.nbytes}
        for key, value in place.items():
            proto.external_data.add(key=key, value=str(value))
        self._tensors.append(proto)
        return name

    def matmul(self, x: str, name: str) -> str:
        """x times a weight matrix (in, out), without its bias."""
        key = f"{name}.weight"
        if self._is_exact(name):
            y = self.node("MatMul", [x, self.weight(key)])
        else:
            fold = self._plan.folds.get(name)
            folded = x if fold is None else self._fold(x, name, fold)
            y = self._int8_matmul(folded, name, self._read(key))
        self._products[y] = name, x
        return y

    def _fold(self, x: str, name: str, fold: Fold) -> str:
        if fold.has_shift:
            x = self.node("Sub", [x, self.initializer(f"{name}.shift", fold.shift)])
        return self.node("Mul", [x, self.initializer(f"{name}.divisor", 1 / fold.scale)])

    def _is_exact(self, name: str) -> bool:
        return self.shape.precision == "fp32" or name in self._plan.fp32

    def _int8_matmul(self, x: str, name: str, matrix: Array) -> str:
        weights, scale = quantise(matrix, self.shape.max_int8_weight)
        largest = self.node("ReduceMax", [self.node("Abs", [x]), self.initializer("axis", _AXIS)])
        # a row of zeros must not be divided by zero
        largest = self.node("Max", [largest, self.initializer("least", MIN_SCALE)])
        rows = self.node("Div", [x, largest])
        zero = self._plan.zero_points.get(name, ZERO_POINT)
        centre = self.initializer(f"centre.{zero}", np.array(zero, np.uint8))
        step = self.initializer(f"step.{zero}", np.array(1 / (MAX_UINT8 - zero), np.float32))
        rows = self.node("QuantizeLinear", [rows, step, centre])
        columns = [self.initializer(name, weights), step, self.initializer(f"{name}.scale", scale)]
        y = self.node("MatMulIntegerToFloat", [rows, *columns, centre], domain=MICROSOFT_DOMAIN)
        return self.node("Mul", [y, largest])

    def lm_head(self, x: str) -> None:
        """The logits; the weights are those of the embedding unless the checkpoint has others."""
        key = HEAD if HEAD in self._weights else EMBEDDING
        if self._is_exact(LM_HEAD):
            self._node("Gemm", [x, self.weight(key)], ["logits"], transB=1)
        else:
            scores = self._int8_matmul(x, LM_HEAD, self._weights[key].T)
            self._node("Identity", [scores], ["logits"])

    def attention(self, x: str, layer: int) -> str:
        """Attention over the cache, in which the new keys and values are put at their places.

        `row_tokens` (B, S) are the tokens of each row, padded on the right; `token_places` (T) are
        the places of the tokens in there.
        """
        shape = self.shape
        x = self.node("Gather", [x, "row_tokens"], axis=0)
        scale = shape.head_size**-0.5 if shape.scale_attn else 1.0
        scale /= layer + 1 if shape.scale_attn_by_layer else 1
        past = [f"past_k_{layer}", f"past_v_{layer}"]
        present = [f"present_k_{layer}", f"present_v_{layer}"]
        inputs = [x, "", "", *past, "last_position", "longest"]
        if shape.packs:
            inputs += [*UNUSED_INPUTS, "lengths"]
        y = self._node(
            "GroupQueryAttention",
            inputs,
            [f"attention_{layer}", *present],
            MICROSOFT_DOMAIN,
            num_heads=shape.heads,
            kv_num_heads=shape.heads,
            scale=scale,
        )
        width = np.array([-1, shape.heads * shape.padded_head_size])
        y = self.node("Reshape", [y, self.initializer("width", width)])
        return self.node("Gather", [y, "token_places"], axis=0)

    def activate(self, x: str, bias: str) -> str:
        """The activation of x and a bias."""
        if self.shape.activation in TANH_GELUS:
            return self.node("FastGelu", [x, self.weight(bias)], domain=MICROSOFT_DOMAIN)
        op, domain, attributes = OTHER_ACTIVATIONS[self.shape.activation]
        return self.node(op, [self.node("Add", [x, self.weight(bias)])], domain, **attributes)

    def add_and_norm(self, x: str, stream: str, product: str, norm: str) -> tuple[str, str]:
        """Add a block's output and its bias to the residual stream; the norm of it, and itself.

        SkipLayerNormalization would do all of it at once, but takes longer.
        """
        x = self.node("Add", [x, self.weight(f"{product}.bias")])
        stream = self.node("Add", [x, stream])
        return self.layer_norm(stream, norm), stream

    def layer_norm(self, x: str, name: str) -> str:
        inputs = [x, *(self.weight(f"{name}.{part}") for part in ("weight", "bias"))]
        return self.node("LayerNormalization", inputs, axis=-1, epsilon=self.shape.epsilon)

    def _with_adapters(self, matrices: Collection[str]) -> Iterator[onnx.NodeProto]:
        """The nodes, with an adapter of each row at the products of these matrices of a block."""
        for node in self._nodes:
            y = node.output[0]
            name, x = self._products.get(y, ("", ""))
            if _matrix(name) not in matrices:
                yield node
                continue
            plain = onnx.NodeProto()
            plain.CopyFrom(node)
            plain.output[0] = f"{y}.plain"
            rows, down, up, line, tokens = (f"{y}.{n}" for n in range(5))
            yield plain
            yield helper.make_node("Gather", [x, "row_tokens"], [rows], axis=0)
            yield helper.make_node("MatMul", [rows, f"lora_a_{name}"], [down])
            if self._is_shifted(name):
                down, unmoved = f"{y}.5", down
                yield helper.make_node("Add", [unmoved, f"lora_c_{name}"], [down])
            yield helper.make_node("MatMul", [down, f"lora_b_{name}"], [up])
            yield helper.make_node("Flatten", [up], [line], axis=2)
            yield helper.make_node("Gather", [line, "token_places"], [tokens], axis=0)
            yield helper.make_node("Add", [plain.output[0], tokens], [y])

    def _adapter_inputs(self, matrices: Collection[str]) -> Iterator[onnx.ValueInfoProto]:
        shape, value = self.shape, helper.make_tensor_value_info
        heads, inner = shape.heads * shape.padded_head_size, len(self._read("h.0.mlp.c_fc.bias"))
        sizes = {
            "attn.c_attn": (shape.width, 3 * heads),
            "attn.c_proj": (heads, shape.width),
            "mlp.c_fc": (shape.width, inner),
            "mlp.c_proj": (inner, shape.width),
        }
        for name, _ in self._products.values():
            if (matrix := _matrix(name)) in matrices:
                rows, columns = sizes[matrix]
                yield value(f"lora_a_{name}", TensorProto.FLOAT, ["B", rows, "R"])
                yield value(f"lora_b_{name}", TensorProto.FLOAT, ["B", "R", columns])
                if self._is_shifted(name):
                    yield value(f"lora_c_{name}", TensorProto.FLOAT, ["B", 1, "R"])

    def _is_shifted(self, name: str) -> bool:
        """Whether what a matrix reads was moved, so that an adapter has to add that again."""
        fold = self._plan.folded.get(name)
        return fold is not None and fold.has_shift

    def save(self, path: Path, adapted: Collection[str] = ()) -> None:
        """Write the graph, with adapters at the `adapted` matrices of each block."""
        shape, value = self.shape, helper.make_tensor_value_info
        integer, real = TensorProto.INT64, TensorProto.FLOAT
        per_token = ("input_ids", "position_ids", "token_places")
        inputs = [value(name, integer, ["T"]) for name in per_token]
        inputs.append(value("row_tokens", integer, ["B", "S"]))
        inputs.append(value("last_tokens", integer, ["B"]))
        inputs.append(value("last_position", TensorProto.INT32, ["B"]))
        inputs.append(value("longest", TensorProto.INT32, [1]))
        if shape.packs:
            inputs.append(value("lengths", TensorProto.INT32, ["B"]))
        outputs = [value("logits", real, ["B", "V"])]
        for layer in range(shape.layers):
            for part in "kv":
                cache: list[str | int | None] = ["B", shape.heads, "P", shape.padded_head_size]
                inputs.append(value(f"past_{part}_{layer}", real, cache))
                outputs.append(value(f"present_{part}_{layer}", real, cache))
        inputs += self._adapter_inputs(adapted)
        nodes = list(self._with_adapters(adapted))
        graph = helper.make_graph(nodes, "gpt2", inputs, outputs, self._tensors)
        path.write_bytes(_model(graph).SerializeToString())


_AXIS = np.array([-1])
MIN_SCALE = np.array(1e-20, np.float32)
"""Least magnitude of a row of activations."""


def _matrix(name: str) -> str:
    """`attn.c_proj` of `h.0.attn.c_proj`; empty for what is in no block."""
    return name.split(".", 2)[2] if name.startswith("h.") else ""


def quantise(matrix: Array, top: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize a matrix (in, out) to integers from -top to top, with one scale per column."""
    quantized = np.empty(matrix.shape, np.int8)
    scale = np.empty(matrix.shape[1], np.float32)
    for start in range(0, len(scale), COLUMN_CHUNK):
        part = slice(start, start + COLUMN_CHUNK)
        scale[part] = np.abs(matrix[:, part]).max(axis=0) / top
        scale[part][scale[part] == 0] = 1
        quantized[:, part] = np.round(matrix[:, part] / scale[part])
    return quantized, scale


def find_max_int8_weight() -> int:
    """Find out by a trial whether this CPU saturates (see `GraphConfig.max_int8_weight`)."""
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
    session = onnxruntime.InferenceSession(_model(graph).SerializeToString())
    [sums] = session.run(None, {"rows": extreme["rows"]})
    return 127 if bool((np.asarray(sums) == (255 - 128) * 127 * 64).all()) else 63


def can_pack() -> bool:
    """Find out by a trial whether this ONNX Runtime's attention takes, on a CPU, sequences with
    different numbers of new tokens: two of them here, with two and one."""
    real, integer = TensorProto.FLOAT, TensorProto.INT32
    new, cache = [2, 2, 3 * HEAD_MULTIPLE], [2, 1, 2, HEAD_MULTIPLE]
    kinds = {"x": (real, new), "k": (real, cache), "v": (real, cache)}
    kinds |= {"last_position": (integer, [2]), "longest": (integer, [1]), "lengths": (integer, [2])}
    attend = helper.make_node(
        "GroupQueryAttention",
        ["x", "", "", "k", "v", "last_position", "longest", *UNUSED_INPUTS, "lengths"],
        ["y", "keys", "values"],
        domain=MICROSOFT_DOMAIN,
        num_heads=1,
        kv_num_heads=1,
    )
    inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    results = {"y": [2, 2, HEAD_MULTIPLE], "keys": cache, "values": cache}
    outputs = [helper.make_tensor_value_info(name, real, of) for name, of in results.items()]
    graph = helper.make_graph([attend], "trial", inputs, outputs)
    feeds: dict[str, NDArray[Any]]
    feeds = {name: np.ones(of, np.float32) for name, (_, of) in kinds.items() if name in "xkv"}
    lengths = np.array([2, 1], np.int32)
    feeds |= {"last_position": lengths - 1, "longest": np.array([2], np.int32), "lengths": lengths}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # an older one is no error
    try:
        session = onnxruntime.InferenceSession(
            _model(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        y = np.asarray(session.run(["y"], feeds)[0])
    except ORT_ERRORS:
        return False
    return bool((y[0] == 1).all() and (y[1, 0] == 1).all())


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    sets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT_DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=9)
