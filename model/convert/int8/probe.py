"""Runs a graph of `model.convert.onnx_graph` over whole rows of text, to look inside it.

Asks for the logits after every token, and adds to a copy of the graph what each matrix reads. Does
not know what is measured with that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from model.convert.artifact import GRAPH_FILE
from model.convert.onnx_graph import LM_HEAD, GraphConfig
from model.runners.device import available_cores
from model.runners.onnx_runner import ORT_ERRORS

PROBE_FILE = "probe.onnx"
Floats = NDArray[np.float32]


class Probe:
    """The graph in `folder`, whose weights it shares. A context manager, which removes its file."""

    def __init__(self, folder: Path, shape: GraphConfig) -> None:
        self._shape = shape
        self._file = folder / PROBE_FILE
        graph = onnx.load(folder / GRAPH_FILE, load_external_data=False)
        self._inputs = _expose(graph)
        self._file.write_bytes(graph.SerializeToString())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised as well
        options.intra_op_num_threads = max(1, available_cores() - 1)  # one is left to the replies
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        if shape.precision == "fp32":  # the weights stay in the file, mapped
            options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                self._file, options, providers=["CPUExecutionProvider"]
            )
        except ORT_ERRORS as e:
            raise RuntimeError(f"{folder} cannot be opened") from e

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        del self._session  # Windows removes no file that is mapped
        self._file.unlink()

    def logits(self, ids: Sequence[int]) -> Floats:
        """Of the next token (S, V), after each of `ids`."""
        return self._run(ids, ["logits"])[0]

    def inputs(self, ids: Sequence[int]) -> dict[str, Floats]:
        """What each matrix reads (S, in), by its name; heads without their padding."""
        found = self._run(ids, list(self._inputs.values()))
        return {
            name: self._without_padding(name, array.reshape(len(ids), -1))
            for name, array in zip(self._inputs, found, strict=True)
        }

    def _without_padding(self, name: str, array: Floats) -> Floats:
        shape = self._shape
        if not name.endswith("attn.c_proj"):
            return array
        heads = array.reshape(len(array), shape.heads, shape.padded_head_size)
        return heads[:, :, : shape.head_size].reshape(len(array), -1)

    def _run(self, ids: Sequence[int], outputs: list[str]) -> list[Floats]:
        shape, count = self._shape, len(ids)
        cache = np.zeros((1, shape.heads, count, shape.padded_head_size), np.float32)
        past = {f"past_{part}_{n}": cache for n in range(shape.layers) for part in "kv"}
        feeds = {
            "input_ids": np.array(ids, np.int64),
            "position_ids": np.arange(count),
            "row_tokens": np.arange(count)[None],
            "token_places": np.arange(count),
            "last_tokens": np.arange(count),  # all: the logits after each token
            "last_position": np.array([count - 1], np.int32),
            "longest": np.array([count], np.int32),
        }
        if shape.packs:
            feeds["lengths"] = np.array([count], np.int32)
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True  # no logits where nobody looks at them
        try:
            found: list[Floats] = self._session.run(outputs, {**feeds, **past}, options)
        except ORT_ERRORS as e:
            raise RuntimeError("a step failed") from e
        return found


def _expose(model: onnx.ModelProto) -> Mapping[str, str]:
    """Make the graph give what its fp32 matrices read; the name of that for each of them."""
    graph = model.graph
    weights = {f"{name}.weight": name for name in _matrices(graph)}
    inputs = {
        weights[node.input[1]]: node.input[0]
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in weights
    }
    [last] = [one for one in graph.node if one.op_type == "Gather" and "last_tokens" in one.input]
    inputs[LM_HEAD] = last.input[0]
    graph.output.extend(
        helper.make_tensor_value_info(one, TensorProto.FLOAT, None) for one in inputs.values()
    )
    return inputs


def _matrices(graph: onnx.GraphProto) -> list[str]:
    names = [one.name.removesuffix(".weight") for one in graph.initializer]
    return [one for one in names if one.endswith(("c_attn", "c_proj", "c_fc"))]
