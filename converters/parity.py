"""Proof that an ONNX file computes what its weights compute in their own framework.

The file itself is run, whole and unchanged, by `converters.worker` in a fresh process, and given
nothing but what a user gives it. The backbone's front says what that is: batches of 1, 2 and 5 for
which both sides must agree to rounding, and real samples whose way to the network's tensors is
gone by each side on its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import ConversionError
from converters import fresh_process
from converters.backbone import Backbone, Given, Outputs
from converters.comparing import OtherFindsError, comparable, differences
from converters.export import save
from converters.folder import Parity
from converters.interface import BATCH_SIZES, BOXES, EMBEDDING, INPUTS, LOGITS, PROBABILITIES

TOLERANCE = 1e-5  # max|onnx - reference| / max|reference| over all batches, fp32
# Some networks make more of rounding. Where the reference itself is so far from float64, the graph
# may be twice as far from the reference, which is itself and another one that rounds as badly.
OF_ROUNDING, MOST_OF_ROUNDING = 2, 1e-4
# Boxes and scores are the extremes of what many places of a network say.
OF_ROUNDING_OF_FINDS, MOST_OF_FINDS = 5, 5e-3
# One pixel in a thousand is rounded apart by the two resizes. That moves the outputs of trained
# networks by 1e-3 (of random ones by up to 1e-2), a resize with other coefficients by over 9e-2.
PHOTO_TOLERANCE = 5e-2
# Outputs that hardly depend on the image would agree whatever is done to it.
MIN_SPREAD = 1e-3
# Classes nearer than this, relative to the largest logit, are tied for the agreement of ranks; or
# nearer than the two resizes move the logits by, which with random weights is more.
TIE = 1e-3
# Of the pixels of photos that went through two resizes, so many have the same class.
PIXELS_AGREE = 0.99


def check(
    model: Path, backbone: Backbone, work: Path, samples: Sequence[Any] | None = None
) -> Parity:
    """How near ``model`` is to ``backbone``; ``work`` is a folder for temporary files.

    ``samples`` are real inputs in the place of those that ship with what is installed.

    Raises:
        ConversionError: not near enough, or it cannot be run; the message has the figures and,
            where it can be told, the first layer that differs.
    """
    samples = backbone.front.samples() if samples is None else samples
    exact, real = backbone.front.exact(samples), backbone.front.real(samples)
    given = {**exact, **real}
    seen = fresh_process.run(model, given, work)
    expected = backbone.answers(given)
    try:
        expected, seen = comparable(given, expected, seen, backbone.activation)
    except OtherFindsError as error:
        raise _located(error, model, backbone, exact, work) from error
    for name, reference in expected.items():
        _check_sound(name, seen[name], reference)
    _check_found(expected.values())
    _check_spread(expected[name] for name in exact)
    outputs = differences({name: expected[name] for name in exact}, seen)
    photo_outputs = differences({name: expected[name] for name in real}, seen)
    allowed = dict.fromkeys(outputs, TOLERANCE)
    if max(outputs.values()) > TOLERANCE:
        times, most = OF_ROUNDING, MOST_OF_ROUNDING
        if BOXES in outputs:
            times, most = OF_ROUNDING_OF_FINDS, MOST_OF_FINDS
        for output, apart in backbone.rounding(exact).items():
            allowed[output] = max(TOLERANCE, min(times * apart, most))
    tie = max(TIE, photo_outputs.get(LOGITS, 0.0))
    top1, top5 = _agreements([(expected[name], seen[name]) for name in real or exact], tie)
    parity = Parity(
        reference=backbone.reference,
        tolerance=max(allowed.values()),
        max_rel_diff=max(outputs.values()),
        top1_agreement=top1,
        top5_agreement=top5,
        photo_max_rel_diff=max(photo_outputs.values()) if real else None,
        outputs=outputs,
        batch_sizes=_sizes(exact),
        photos=len(real),
        samples=len(samples),
    )
    try:
        _judge(parity, allowed, photo_outputs)
    except ConversionError as error:
        raise _located(error, model, backbone, exact, work) from error
    return parity


def _located(
    error: ConversionError,
    model: Path,
    backbone: Backbone,
    batches: Mapping[str, Given],
    work: Path,
) -> ConversionError:
    """The error with the first layer that differs, where that can be told."""
    where = _first_difference(model, backbone, batches, work)
    return ConversionError(f"{error.message}{f'; {where}' if where else ''}", hint=error.hint)


def _judge(
    parity: Parity, allowed: Mapping[str, float], photo_outputs: Mapping[str, float]
) -> None:
    hint = "the model was not kept; please report its uid"
    for output, difference in parity.outputs.items():
        if not difference <= allowed[output]:
            raise ConversionError(
                f"the ONNX graph is not the model: {output} differs from {parity.reference} by "
                f"{difference:.2e} of its range, more than {allowed[output]:.2e}",
                hint=hint,
            )
    for output, difference in photo_outputs.items():
        if not difference <= PHOTO_TOLERANCE:
            raise ConversionError(
                f"the ONNX graph prepares photos otherwise: {output} differs from "
                f"{parity.reference} by {difference:.2e} of its range, more than "
                f"{PHOTO_TOLERANCE:.0e}",
                hint=hint,
            )
    top1, top5 = parity.top1_agreement, parity.top5_agreement
    if top1 is not None and top5 is None and top1 < PIXELS_AGREE:
        raise ConversionError(
            f"the ONNX graph gives other classes to pixels than {parity.reference}: {top1:.2%} "
            f"agree in {parity.samples} samples",
            hint=hint,
        )
    if top1 is not None and top5 is not None and min(top1, top5) < 1:
        raise ConversionError(
            f"the ONNX graph ranks classes otherwise than {parity.reference}: top-1 agrees on "
            f"{top1:.0%}, top-5 on {top5:.0%} of {parity.samples} samples",
            hint=hint,
        )


def _first_difference(
    model: Path, backbone: Backbone, batches: Mapping[str, Given], work: Path
) -> str | None:
    """Where the graph and the network part, as half a sentence; None where that cannot be told."""
    import onnx

    from converters.graph import with_outputs

    graph = onnx.load(str(model))
    there = {item.name for item in [*graph.graph.value_info, *graph.graph.output]}
    name, given = next(iter(batches.items()))
    inner = {key: array for key, array in backbone.inner(given).items() if key in there}
    with tempfile.TemporaryDirectory(prefix="parity-", dir=work) as folder:
        file = Path(folder, "layers.onnx")
        save(with_outputs(graph, list(inner)), file)
        seen = fresh_process.run(file, {name: given}, work)[name]
    expected, answered = comparable({name: given}, {name: inner}, {name: seen}, None)
    for layer, array in expected[name].items():
        difference = differences({name: {layer: array}}, answered)[layer]
        if not difference <= TOLERANCE:
            part = "the preprocessing" if layer in INPUTS else f"layer {layer}"
            return f"{part} is the first part that differs, by {difference:.1e}"
    return "all layers agree: what comes after the last of them differs"


def _check_sound(batch: str, seen: Outputs, reference: Outputs) -> None:
    for output, array in reference.items():
        if output not in seen or seen[output].shape != array.shape:
            shape = seen[output].shape if output in seen else "absent"
            raise ConversionError(
                f"{output} is {shape} in the ONNX graph, {array.shape} in the reference ({batch})"
            )
        both = (array, seen[output])
        if any(each.dtype.kind == "f" and not np.isfinite(each).all() for each in both):
            raise ConversionError(f"{output} is not finite for {batch}: the weights are broken")


def _check_found(answers: Iterable[Outputs]) -> None:
    found = [len(outputs[BOXES]) for outputs in answers if BOXES in outputs]
    if found and not any(found):
        raise ConversionError(
            "it finds nothing in any of the sample photos: nothing can be shown with these weights"
        )


def _check_spread(batches: Iterable[Outputs]) -> None:
    """Outputs must depend on what the graph is given: each that is known, or else one of them."""
    rows: dict[tuple[str, tuple[int, ...]], list[NDArray[Any]]] = {}
    for batch in batches:
        for output, array in batch.items():
            if output != PROBABILITIES and array.ndim and array.dtype.kind in "fiub":
                rows.setdefault((output, array.shape[1:]), []).append(array.astype(np.float64))
    spread: dict[str, float] = {}
    for (output, _), arrays in rows.items():
        array = np.concatenate(arrays)
        if len(array) > 1 and array.size:
            moved = np.ptp(array, axis=0).max() / (np.abs(array).max() or 1)
            spread[output] = max(spread.get(output, 0.0), float(moved))
    if any(spread[output] > MIN_SPREAD for output in spread.keys() - {LOGITS, EMBEDDING}):
        spread = {output: spread[output] for output in spread.keys() & {LOGITS, EMBEDDING}}
    for output, moved in spread.items():
        if not moved > MIN_SPREAD:
            raise ConversionError(
                f"{output} hardly depends on the input (it moves by {moved:.1e} of its range): "
                "nothing can be shown with these weights"
            )


def _sizes(batches: Mapping[str, Given]) -> tuple[int, ...]:
    """How many the graph was given at once; of what is not asked of every graph, not all."""
    sizes = {len(array) for given in batches.values() for array in given.values() if array.ndim}
    return tuple(size for size in BATCH_SIZES if size in sizes)


def _agreements(
    pairs: Sequence[tuple[Outputs, Outputs]], tie: float
) -> tuple[float | None, float | None]:
    """The agreement of the first and of the first five classes; of pixels that of the first."""
    logits = [reference.get(LOGITS) for reference, _ in pairs]
    if not all(item is not None and item.shape[-1] > 1 for item in logits):
        return None, None
    if pairs[0][0][LOGITS].ndim == 4:
        return _pixels_agree(pairs), None
    return _agreement(pairs, 1, tie), _agreement(pairs, 5, tie)


def _agreement(pairs: Sequence[tuple[Outputs, Outputs]], top: int, tie: float) -> float:
    """The fraction of images whose ``top`` classes are the reference's, in order, up to ties."""
    agreed: list[bool] = []
    for reference, seen in pairs:
        for logits, ours in zip(reference[LOGITS], seen[LOGITS], strict=True):
            best = np.sort(logits)[::-1][:top]
            chosen = logits[np.argsort(-ours, kind="stable")[:top]]
            agreed.append(bool(np.abs(best - chosen).max() <= tie * np.abs(logits).max()))
    return sum(agreed) / len(agreed)


def _pixels_agree(pairs: Sequence[tuple[Outputs, Outputs]]) -> float:
    """The fraction of pixels that have the reference's class, up to ties."""
    agreed, pixels = 0, 0
    for reference, seen in pairs:
        logits, ours = reference[LOGITS], seen[LOGITS].argmax(1)[:, None]
        chosen = np.take_along_axis(logits, ours, 1)[:, 0]
        near = logits.max(1) - chosen <= TIE * np.abs(logits).max()
        agreed, pixels = agreed + int(near.sum()), pixels + near.size
    return agreed / pixels
