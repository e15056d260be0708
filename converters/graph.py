"""Changes to a finished graph: which of its named tensors it gives."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from catalog.errors import UsageError


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with these named tensors among its outputs, after those that it has.

    Raises:
        UsageError: it has no tensor of that name; the hint has those that it has.
    """
    graph = model.graph
    have = {item.name for item in graph.output}
    known = {item.name: item for item in graph.value_info}
    missing = [name for name in names if name not in have and name not in known]
    if missing:
        made = {name for node in graph.node for name in node.output}
        layers = [name for name in known if name in made]
        raise UsageError(
            f"the graph has no layer {missing[0]!r}",
            hint=f"it has {', '.join(layers[:40])}{' ...' if len(layers) > 40 else ''}",
        )
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.output.extend(known[name] for name in dict.fromkeys(names) if name not in have)
    return changed
