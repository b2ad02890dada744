"""Fits int8 to a checkpoint, and checks it against fp32 before anybody is answered with it.

1. The fp32 graph reads some talk; what each matrix reads there is kept for a sample of the tokens.
2. For each matrix the fold (`model.convert.int8.folding`) is chosen whose int8 product is nearest.
3. Both graphs read other talk. While they differ by more than MAX_DIVERGENCE, the matrices whose
   int8 is worst stay in fp32.

Does not know tokenizers or the cache.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.convert.checkpoint import Array
from model.convert.int8.calibration_text import CalibrationText
from model.convert.int8.folding import Fit, Fitting, FoldedWeights
from model.convert.int8.probe import Probe
from model.convert.int8.quality import Int8Quality
from model.convert.onnx_graph import LM_HEAD, ZERO_POINT, GraphConfig, Int8Plan, write_graph
from model.convert.shapes import EMBEDDING, HEAD

log = logging.getLogger(__name__)

SAMPLE_STEP = 9
"""Of the tokens that are read, one in so many is kept: 114 of 1,024. It does not divide the length
of a row, so they come from everywhere in one."""
SAMPLE_COLUMNS = 128
"""Columns of a matrix that are tried; each has its own scale, so they stand for the others."""
MIN_ERROR, MIN_GAIN = 5e-4, 2.0
"""The graph folds what a product reads, which takes time at each step, if its error is above the
first, and each operator lowers it so many times. An ordinary product has an error of 1e-4."""
ZERO_POINTS = (ZERO_POINT, 64, 32)
"""Tried for what comes from an activation function, most of which give no large negative numbers:
the lower it is, the more steps are left for positive ones."""
MAX_ROUNDS = 6
"""Checks, each with more matrices in fp32; in the last all are."""
AIM = 0.7
"""The share of the limit that the next round aims at, since errors do not simply add up."""


def write_int8(
    weights: Mapping[str, Array],
    shape: GraphConfig,
    text: CalibrationText,
    folder: Path,
    scratch: Path,
) -> Int8Quality | None:
    """Write the graph in int8 into `folder`, and say how near it is to fp32; None if fp32 computes
    no finite numbers, so that there is nothing to be near to. `scratch` gets the weights in fp32.
    """
    exact = replace(shape, precision="fp32")
    write_graph(weights, exact, scratch)
    with np.errstate(all="ignore"), Probe(scratch, exact) as reference:
        samples = _sample(reference, text.calibration)
        if not all(np.isfinite(rows).all() for rows in samples.values()):
            write_graph(weights, shape, folder)
            return None
        fits = {name: _fit(name, rows, weights, shape) for name, rows in samples.items()}
        fp32: set[str] = set()
        for left in reversed(range(MAX_ROUNDS)):
            _write(weights, shape, fits, fp32, folder)
            with Probe(folder, shape) as probe:
                quality = _compare(reference, probe, text.check)
            if quality.is_near or len(fp32) == len(fits):
                break
            log.debug("with %d matrices in fp32: %s", len(fp32), quality)
            fp32 |= _worst(fits, fp32, quality) if left > 1 else fits.keys()
    return replace(quality, fp32=len(fp32), matrices=len(fits))


def _sample(probe: Probe, rows: Sequence[Sequence[int]]) -> dict[str, Array]:
    """What each matrix reads (N, in) at some of the tokens."""
    kept: dict[str, list[Array]] = {}
    past = 0
    for ids in rows:
        first = -past % SAMPLE_STEP
        for name, read in probe.inputs(ids).items():
            kept.setdefault(name, []).append(read[first::SAMPLE_STEP].copy())
        past += len(ids)
    return {name: np.concatenate(parts) for name, parts in kept.items()}


def _fit(name: str, rows: Array, weights: Mapping[str, Array], shape: GraphConfig) -> Fit:
    """The best fold; of those that the graph itself has to do, only one that is worth its time."""
    fitting = Fitting(rows, _some_columns(name, weights), shape.max_int8_weight)
    if not _is_in_graph(name):
        folded = fitting.with_fold(shifting=name != LM_HEAD)  # which has no bias
        return min(fitting.without_fold(), folded, key=lambda one: one.error)
    best = fitting.without_fold(ZERO_POINTS)
    for shifting in (False, True):  # one operator, then two
        if best.error > MIN_ERROR:
            folded = fitting.with_fold(shifting=shifting)
            best = folded if best.error > MIN_GAIN * folded.error else best
    return best


def _is_in_graph(name: str) -> bool:
    return name.endswith("mlp.c_proj")


def _some_columns(name: str, weights: Mapping[str, Array]) -> Array:
    if name == LM_HEAD:
        head = weights[HEAD if HEAD in weights else EMBEDDING]
        return head[:: -(-len(head) // SAMPLE_COLUMNS)].T
    matrix = weights[f"{name}.weight"]
    some: Array = matrix[:, :: -(-matrix.shape[1] // SAMPLE_COLUMNS)]
    return some


def _write(
    weights: Mapping[str, Array],
    shape: GraphConfig,
    fits: Mapping[str, Fit],
    fp32: set[str],
    folder: Path,
) -> None:
    folds = {
        name: one.fold
        for name, one in fits.items()
        if name not in fp32 and not one.fold.is_identity
    }
    plan = Int8Plan(
        fp32,
        {name: fold for name, fold in folds.items() if _is_in_graph(name)},
        {name: fold for name, fold in folds.items() if not _is_in_graph(name)},
        {name: one.zero_point for name, one in fits.items()},
    )
    write_graph(FoldedWeights(weights, folds), shape, folder, plan)


def _compare(reference: Probe, probe: Probe, rows: Sequence[Sequence[int]]) -> Int8Quality:
    """The mean divergence of the next token's distribution, and how much likelier or less likely
    the text is."""
    divergences: list[Array] = []
    losses: list[Array] = []
    for ids in rows:
        theirs, ours = _log_softmax(reference.logits(ids)), _log_softmax(probe.logits(ids))
        divergences.append((np.exp(theirs) * (theirs - ours)).sum(-1))
        following = (np.arange(len(ids) - 1), list(ids[1:]))
        losses.append(theirs[following] - ours[following])
    loss = np.concatenate(losses)
    return Int8Quality(
        divergence=_finite_mean(np.concatenate(divergences)),
        loss=_finite_mean(loss) if len(loss) else 0.0,
    )


def _finite_mean(values: Array) -> float:
    mean = float(values.mean(dtype=np.float64))
    return mean if np.isfinite(mean) else np.inf


def _log_softmax(logits: Array) -> Array:
    logits = logits - logits.max(-1, keepdims=True)
    total = np.exp(logits).sum(-1, keepdims=True, dtype=np.float64)
    logits -= np.log(total).astype(np.float32)
    return logits


def _worst(fits: Mapping[str, Fit], fp32: set[str], quality: Int8Quality) -> set[str]:
    """The int8 matrices with the largest errors, so many that the rest should be near enough."""
    order = sorted(fits.keys() - fp32, key=lambda name: fits[name].error)
    errors = np.array([fits[name].error for name in order])
    allowed = AIM * errors.sum() / quality.excess
    kept = int((np.cumsum(errors) <= allowed).sum())
    return set(order[min(kept, len(order) - 1) :])
