"""A network in int8: by ONNX Runtime's own quantizer, static for CNNs, dynamic for transformers.

Static: activations u8 by the range that they have on the calibration data, weights s8 symmetric per
output channel and rounded by `converters.rounding`, as QDQ. Dynamic: weights s8 per channel,
activations quantized at run time.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from converters.network import Batch
from converters.rounding import Rounded, rounded

# What is quantized beside what has weights: what would else cost a conversion there and back.
_STATIC = (
    *("Add", "AveragePool", "Clip", "Concat", "Conv", "Flatten", "Gemm", "GlobalAveragePool"),
    *("MatMul", "MaxPool", "Mul", "Pad", "ReduceMean", "Relu", "Reshape", "Sigmoid", "Squeeze"),
    *("Transpose", "Unsqueeze"),
)
_DYNAMIC = ("MatMul", "Gemm", "Gather")  # Gather: the embedding table of a text encoder
_MOMENTS = 48  # batches that the weights are rounded by
_FLOAT_OUTPUTS = ("Gemm", "MatMul")  # a classifier's outputs have no range that holds elsewhere


class Quantizer:
    """Static int8 of one network, calibrated once."""

    def __init__(self, network: onnx.ModelProto, batches: Sequence[Batch]) -> None:
        self._network = network
        self._ranges = _ranges(network, batches)
        self._rounded: dict[str, Rounded] = {}
        few = batches[:: max(1, len(batches) // _MOMENTS)]
        self._rounded = rounded(network, _scales(self._quantized(network, ())), few)

    def build(self, floats: Collection[str]) -> onnx.ModelProto:
        """The network in int8 but for the nodes of these names."""
        network = onnx.ModelProto()
        network.CopyFrom(self._network)
        weights = {item.name: item for item in network.graph.initializer}
        chosen = [r for name, r in self._rounded.items() if name not in floats]
        for ours in chosen:
            weights[ours.bias].CopyFrom(numpy_helper.from_array(ours.biases, ours.bias))
        made = self._quantized(network, floats)
        constants = {item.name: item for item in made.graph.initializer}
        for ours in chosen:
            name = f"{ours.weight}_quantized"
            constants[name].CopyFrom(numpy_helper.from_array(ours.values, name))
        return made

    def _quantized(self, network: onnx.ModelProto, floats: Collection[str]) -> onnx.ModelProto:
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        copy = onnx.ModelProto()
        copy.CopyFrom(network)
        with _quiet():
            quantizer = QDQQuantizer(
                copy,
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=self._ranges,
                nodes_to_quantize=[],
                nodes_to_exclude=sorted(floats),
                op_types_to_quantize=list(_STATIC),
                extra_options={"OpTypesToExcludeOutputQuantization": list(_FLOAT_OUTPUTS)},
            )
            quantizer.quantize_model()
        made: onnx.ModelProto = quantizer.model.model
        return made


def dynamic(network: onnx.ModelProto) -> onnx.ModelProto:
    """The network with its matrix products in int8, their inputs quantized as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    with tempfile.TemporaryDirectory(prefix="tlhub-") as folder, _quiet():
        file = Path(folder, "int8.onnx")
        quantize_dynamic(
            copy,
            file,
            op_types_to_quantize=list(_DYNAMIC),
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(file)


def is_convolutional(network: onnx.ModelProto) -> bool:
    """Whether convolutions do most of its work, and not matrix products."""
    kinds = [node.op_type for node in network.graph.node]
    return kinds.count("Conv") > kinds.count("MatMul") + kinds.count("Gemm")


def _ranges(network: onnx.ModelProto, batches: Sequence[Batch]) -> Any:
    """Least and largest value of every tensor."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(batches)

        def get_next(self) -> Batch | None:
            return next(self._left, None)

    with tempfile.TemporaryDirectory(prefix="tlhub-") as folder, _quiet():
        file = Path(folder, "network.onnx")
        onnx.save(network, file)
        calibrator = create_calibrator(
            file,
            list(_STATIC),
            augmented_model_path=str(Path(folder, "calibrated.onnx")),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(Reader())
        return calibrator.compute_data()


def _scales(quantized: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """What an integer of the weights stands for, by the names of the weights."""
    constants = {item.name: item for item in quantized.graph.initializer}
    found = {}
    for node in quantized.graph.node:
        name = node.input[0].removesuffix("_quantized")
        weight = node.op_type == "DequantizeLinear" and name != node.input[0]
        if weight and node.input[0] in constants:
            found[name] = numpy_helper.to_array(constants[node.input[1]])
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the quantizer prints and logs of its own: what goes wrong it raises."""
    root = logging.getLogger()
    before = root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(before)
