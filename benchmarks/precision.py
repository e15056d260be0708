"""int8 and fp16 beside fp32, with real weights on real photos: agreement against speed.

    python benchmarks/precision.py [--model pypi/efficientnet-lite0] [--photos DIR] [--frontier]

The photos are Debian's Tux Paint stamps (`demo/stamps.py`, 354 of them, fetched once), on which
nothing is calibrated: that is done on what `tlhub convert --precision int8` takes without
`--calibrate`, the photos that scikit-learn and scikit-image ship. `--frontier` also goes through
how many layers stay in float, the worst first, each rounded to the nearest and by moments.

Speed: the network alone and the whole graph (a decoded photo of 427 x 640 in), batch 1, one
thread, in one process, in turns; medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import tlhub
from converters import precision, quantize
from converters.evidence import sample_photos
from converters.interface import IMAGE, LOGITS, PIXEL_VALUES
from converters.network import answers, distance, front_of, network_of, parts_of, session_of
from converters.samples import photos_in
from demo import stamps

ROUNDS = 60


def main() -> None:
    """Convert, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pypi/efficientnet-lite0")
    parser.add_argument("--photos", type=Path, help="a folder of photos")
    parser.add_argument("--cache", type=Path, default=Path("data", "stamps"))
    parser.add_argument("--frontier", action="store_true")
    given = parser.parse_args()
    folder = tlhub.convert(given.model, precisions=["fp16", "int8"])
    fp32 = onnx.load(folder.onnx)
    front = front_of(fp32)
    if front is None:
        raise SystemExit(f"{given.model} is no model of photos")
    session = session_of(front)
    photos = photos_in(given.photos or stamps.provide(given.cache))
    batches = [
        {PIXEL_VALUES: session.run([PIXEL_VALUES], {IMAGE: photo[None]})[0]}
        for photo in photos.photos()
    ]
    reference = answers(network_of(fp32), batches)
    print(f"{given.model}, {len(batches)} photos of {photos.name}, one thread, batch 1")
    models = {"fp32": fp32}
    for name, variant in folder.manifest.variants.items():
        models[name] = onnx.load(folder.path / variant.file)
        print(f"{name} has in float: {', '.join(variant.float_layers) or 'nothing'}")
    networks = {name: network_of(model) for name, model in models.items()}
    whole = _times(models, IMAGE, next(iter(sample_photos().values()))[None])
    alone = _times(networks, PIXEL_VALUES, batches[0][PIXEL_VALUES])
    print(f"\n{'':8}{'MB':>7}{'top-1 as fp32':>15}{'logits off':>12}", end="")
    print(f"{'network ms':>12}{'':>8}{'graph ms':>10}")
    for name, network in networks.items():
        seen = answers(network, batches)
        same = [int(s[LOGITS].argmax() == r[LOGITS].argmax()) for s, r in _pairs(seen, reference)]
        print(
            f"{name:8}{models[name].ByteSize() / 1e6:7.1f}{sum(same) / len(same):15.1%}"
            f"{distance(_logits(seen), _logits(reference)):12.2%}{alone[name]:12.2f}"
            f"{alone['fp32'] / alone[name]:7.2f}x{whole[name]:10.2f}"
            f"{whole['fp32'] / whole[name]:7.2f}x"
        )
    if given.frontier:
        _frontier(folder, fp32, batches, reference)


def _frontier(folder: object, fp32: onnx.ModelProto, batches: list, reference: list) -> None:
    """Agreement and speed by how many layers stay in float."""
    network = network_of(fp32)
    parts = parts_of(fp32, network)
    work = precision._work(folder, None, None)  # type: ignore[arg-type]
    quantizer = quantize.Quantizer(network, work.batches)
    tried = work.batches[:: max(1, len(work.batches) // 64)]
    wanted = answers(network, tried)
    every = {name for names in parts.values() for name in names}
    alone = {
        layer: distance(answers(quantizer.build(every - {*names}), tried), wanted)
        for layer, names in parts.items()
    }
    order = sorted(parts, key=lambda layer: -alone[layer])
    print(
        f"\n{'in float':28}{'rounded':10}{'calibration off':>16}{'top-1 as fp32':>15}{'speed':>8}"
    )
    floats: set[str] = set()
    by_moments = quantizer._rounded
    for layer in ["nothing", *order[:6]]:
        floats |= set(parts.get(layer, ()))
        for how, chosen in (("nearest", {}), ("moments", by_moments)):
            quantizer._rounded = chosen
            made = quantizer.build(floats)
            off = distance(answers(made, tried), wanted)
            pairs = _pairs(answers(made, batches), reference)
            same = [int(s[LOGITS].argmax() == r[LOGITS].argmax()) for s, r in pairs]
            taken = _times({"fp32": network, "int8": made}, PIXEL_VALUES, batches[0][PIXEL_VALUES])
            name = layer if layer == "nothing" else f"+ {layer}"
            print(
                f"{name:28}{how:10}{off:16.2%}{sum(same) / len(same):15.1%}"
                f"{taken['fp32'] / taken['int8']:7.2f}x"
            )


def _times(models: Mapping[str, onnx.ModelProto], name: str, value: np.ndarray) -> dict[str, float]:
    """The median of each in ms, all of them in turns."""
    with tempfile.TemporaryDirectory() as place:
        sessions: dict[str, onnxruntime.InferenceSession] = {}
        for key, model in models.items():
            file = Path(place, f"{key}.onnx")
            onnx.save(model, file)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            sessions[key] = onnxruntime.InferenceSession(
                file, options, providers=["CPUExecutionProvider"]
            )
        taken: dict[str, list[float]] = {key: [] for key in sessions}
        for _ in range(ROUNDS):
            for key, session in sessions.items():
                session.run([LOGITS], {name: value})  # warm: the last one used the caches
                started = time.perf_counter()
                session.run([LOGITS], {name: value})
                taken[key].append((time.perf_counter() - started) * 1e3)
    return {key: statistics.median(values) for key, values in taken.items()}


def _pairs(seen: list, reference: list) -> zip:
    return zip(seen, reference, strict=True)


def _logits(seen: list) -> list:
    return [{LOGITS: one[LOGITS]} for one in seen]


if __name__ == "__main__":
    main()
