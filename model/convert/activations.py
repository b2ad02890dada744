"""The activation functions of a GPT-2, by transformers' names, and ONNX Runtime's operators."""

from __future__ import annotations

from collections.abc import Mapping

MICROSOFT_DOMAIN = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
TANH_GELUS = frozenset(
    {"gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh"}
)
"""Names of GPT-2's activation, the tanh approximation of GELU; its operator also adds the bias."""
OTHER_ACTIVATIONS: Mapping[str, tuple[str, str, Mapping[str, float]]] = {
    "gelu": ("Gelu", MICROSOFT_DOMAIN, {}),
    "gelu_python": ("Gelu", MICROSOFT_DOMAIN, {}),
    "quick_gelu": ("QuickGelu", MICROSOFT_DOMAIN, {"alpha": 1.702}),
    "silu": ("QuickGelu", MICROSOFT_DOMAIN, {"alpha": 1.0}),
    "swish": ("QuickGelu", MICROSOFT_DOMAIN, {"alpha": 1.0}),
    "relu": ("Relu", "", {}),
    "tanh": ("Tanh", "", {}),
}
"""Operator, domain and attributes of each other activation."""
SUPPORTED_ACTIVATIONS = TANH_GELUS | OTHER_ACTIVATIONS.keys()
