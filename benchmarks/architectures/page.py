"""The page that says which architectures convert."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Why some do not, and where it is discussed.
_FINDS = (
    "with random weights rounding decides what is found: of a photo that differs by 3e-5 torch "
    "itself finds {}"
)
REASONS = {
    "timm/gemma4_vit": (
        "a member of 167 M parameters: its graph is valid since clamps keep their bounds, and the "
        "check was not done after 20 minutes on one core beside other work"
    ),
    "timm/inception_v4": (
        "with random weights the network's own rounding is 1.4e-4 (float32 beside float64), and "
        "1e-4 is the most that is ever allowed"
    ),
    "timm/vision_transformer_sam": (
        "attention over all of 1024 x 1024 pixels takes more memory for five pictures than there "
        "was (24 GB)"
    ),
    "torchvision/keypointrcnn_resnet50_fpn": _FINDS.format("2 to 5 of 100 otherwise"),
    "torchvision/maskrcnn_resnet50_fpn": _FINDS.format("other masks, by up to 1.0 of their range"),
    "torchvision/maskrcnn_resnet50_fpn_v2": "as of maskrcnn_resnet50_fpn, which was measured",
    "torchvision/retinanet_resnet50_fpn_v2": _FINDS.format("3 to 196 of 300 otherwise"),
}

_HEAD = """# Which architectures convert

Written by `make architectures`, not by hand: {tools}, Python {python} on {system}.

Of every family of a framework the member with the least to compute, with random weights whose
norms, biases and layer scales are drawn so that no branch is mute; of transformers a network made
small, with such weights. `pull` and `convert` do the same with published weights: export, the check
in a fresh process on batches of 1, 2 and 5 and on photos of several sizes, or on sentences, and the
result is run on these. `difference` is max|onnx - torch| / max|torch| of an output over all
batches, the worst of all outputs, and must not exceed 1e-5, or twice the network's own rounding.

{passed} of {total} convert.

| family | architecture | difference | from the photo on | layers | MB | seconds |
|---|---|---:|---:|---:|---:|---:|
"""


def write(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Write the page."""
    tools = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "timm", "torchvision", "transformers")
    )
    passed = [row for row in rows if "error" not in row]
    text = _HEAD.format(
        tools=tools,
        python=platform.python_version(),
        system=platform.system(),
        passed=len(passed),
        total=len(rows),
    )
    for row in passed:
        photo = row["photo_max_rel_diff"]
        text += (
            f"| {row['name']} | {row['architecture']} | {row['max_rel_diff']:.1e} "
            f"| {'-' if photo is None else f'{photo:.1e}'} | {row['layers']} | {row['mb']} "
            f"| {row['convert_s']} |\n"
        )
    failed = [row for row in rows if "error" in row]
    if failed:
        text += "\nWhat does not:\n\n| family | architecture | why |\n|---|---|---|\n"
        for row in failed:
            why = REASONS.get(row["name"], row["error"]).replace("|", "\\|")
            text += f"| {row['name']} | {row.get('architecture', '')} | {why} |\n"
    text += """
To run it again: `make architectures` goes on where it was stopped;
`python -m benchmarks.architectures --only timm/levit --again` tries one.
"""
    file.write_text(text, encoding="utf-8")
