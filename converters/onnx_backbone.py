"""`OnnxBackbone`: a graph that was ONNX before, as its publisher has it, and what becomes of it.

The publisher's file, in ONNX Runtime, is what every output is compared with. It is run in
processes of their own only, for a limited time: what it does is its publisher's choice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from catalog.errors import ConversionError, UsageError
from catalog.record import ModelRecord
from converters import fresh_process, graph_layers
from converters.backbone import Given, Outputs
from converters.export import save
from converters.folder import Layer
from converters.graph_inputs import GraphInput, batch_of
from converters.interface import BATCH_SIZES, LOGITS
from converters.onnx_pictures import Pictures

PROBE_TIMEOUT_S = 600


@dataclass(frozen=True)
class OwnTensors:
    """A graph that takes its own tensors as they are; random ones show what it computes."""

    inputs: tuple[GraphInput, ...]
    sizes: tuple[Mapping[str, int], ...]  # of what varies, as it was found to work

    def samples(self) -> list[Any]:
        """None: what it is for is not known."""
        return []

    def exact(self, samples: Sequence[Any]) -> dict[str, Given]:  # noqa: ARG002 - an Interface
        """Random tensors, for 1, 2 and 5 at once where the graph leaves that open."""
        return {
            f"random-{place}-{count}": batch_of(self.inputs, sizes, count, count)
            for place, sizes in enumerate(self.sizes)
            for count in BATCH_SIZES
        }

    def real(self, samples: Sequence[Any]) -> dict[str, Given]:  # noqa: ARG002 - an Interface
        """Nothing."""
        return {}

    def tensors(self, given: Given) -> dict[str, NDArray[Any]]:
        """The same."""
        return dict(given)

    def attach(self, model: onnx.ModelProto) -> None:
        """Leave the graph as it is."""

    def description(self) -> dict[str, Any]:
        """What it takes."""
        return {
            "in_graph": False,
            "inputs": [
                {"name": item.name, "dtype": str(item.dtype), "shape": list(item.dims)}
                for item in self.inputs
            ],
        }


@dataclass(frozen=True)
class OnnxBackbone:
    """A publisher's graph, and the one that is made of it."""

    file: Path  # the publisher's, its external data beside it
    original: onnx.ModelProto
    model: onnx.ModelProto  # what it became
    record: ModelRecord
    front: OwnTensors | Pictures
    own: OwnTensors
    origin: Mapping[str, Any]  # what the publisher's was, and what was done to it
    outputs: Mapping[str, str]  # tensors of the original by the names of the outputs
    activation: str | None = None
    keeps: Any = field(default=None, repr=False)  # the folder that the file lies in
    files: Mapping[str, bytes] = field(default_factory=dict)
    evidence: None = None

    @property
    def reference(self) -> str:
        """ONNX Runtime on the publisher's own file."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__} on the publisher's file"

    def layers(self) -> tuple[Layer, ...]:
        """See `converters.graph_layers`."""
        there = _made(self.model) & _made(self.original)
        names = [name for name in graph_layers.to_measure(self.model) if name in there]
        if not names:
            return ()
        bare = replace(self, front=self.own)
        given = {"one": batch_of(self.own.inputs, self.own.sizes[0], 1, 1)}
        try:
            found = bare._run(given, names, mode="shapes")["one"]
        except ConversionError:
            return ()  # some runtimes give no tensor out of an optimised pattern
        return graph_layers.layers_of(self.model, {k: tuple(map(int, v)) for k, v in found.items()})

    def asked(self, layers: Sequence[str], *, preprocess: bool) -> OnnxBackbone:
        """See `Backbone`."""
        have = [layer.name for layer in self.layers()] if layers else []
        for name in layers:
            if name not in have:
                near = get_close_matches(name, have, 1)
                raise UsageError(
                    f"there is no layer {name!r}",
                    hint=f"{f'did you mean {near[0]}? ' if near else ''}it has {', '.join(have)}",
                )
        outputs = {**self.outputs, **{name: name for name in layers}}
        return replace(self, outputs=outputs, front=self.front if preprocess else self.own)

    def graph(self) -> onnx.ModelProto:
        """The publisher's graph as it became, with the layers asked for as outputs."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        have = {item.name for item in model.graph.output}
        known = {item.name: item for item in model.graph.value_info}
        for name in self.outputs:
            if name not in have:
                kind = known.get(name) or onnx.helper.make_tensor_value_info(
                    name, onnx.TensorProto.FLOAT, None
                )
                model.graph.output.append(kind)
        self.front.attach(model)
        return model

    def answers(self, batches: Mapping[str, Given]) -> dict[str, Outputs]:
        """What the publisher's own file answers; logits as rows, of whatever shape it has them."""
        wanted = list(dict.fromkeys(self.outputs.values()))
        found = self._run(batches, wanted)
        answers = {
            name: {ours: there[theirs] for ours, theirs in self.outputs.items()}
            for name, there in found.items()
        }
        if self.activation is not None:
            for outputs in answers.values():
                outputs[LOGITS] = outputs[LOGITS].reshape(-1, self.record.num_classes or 1)
        return answers

    def rounding(
        self,
        batches: Mapping[str, Given],  # noqa: ARG002 - a Backbone
    ) -> dict[str, float]:
        """Unknown: the graph runs as it is."""
        return {}

    def inner(self, given: Given) -> Outputs:
        """The layers."""
        names = [layer.name for layer in self.layers()]
        return self._run({"one": given}, names)["one"] if names else {}

    def write_weights(self, file: Path) -> None:
        """Nothing: the graph has them."""

    def _run(
        self, batches: Mapping[str, Given], wanted: Sequence[str], mode: str = ""
    ) -> dict[str, Outputs]:
        outputs = {item.name for item in self.original.graph.output}
        hidden = [name for name in wanted if name not in outputs]
        with tempfile.TemporaryDirectory(prefix="tlhub-") as folder:
            file = self.file
            if hidden:
                file = Path(folder, "tapped.onnx")
                save(tapped(self.original, hidden), file)
            return fresh_process.run(
                file,
                {name: self.front.tensors(batch) for name, batch in batches.items()},
                outputs=tuple(wanted),
                mode=mode,
            )


def tapped(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with further tensors as outputs, whose types ONNX Runtime works out."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return changed


def _made(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.output}
