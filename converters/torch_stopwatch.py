"""Times weights in their own framework, as `converters.stopwatch` times a graph.

What is timed goes the same way: from decoded photos (or token ids) to all outputs.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import cast

from converters.stopwatch import report


def main() -> None:
    """Load the weights, run them over and over, print what it took."""
    order = json.load(sys.stdin)
    started = time.perf_counter()
    import numpy as np
    import torch

    from converters.backbone import TorchBackbone
    from converters.folder import ModelFolder
    from converters.registry import load_backbone

    torch.set_num_threads(order["threads"])
    folder = ModelFolder.open(Path(order["folder"]))
    backbone = cast(TorchBackbone, load_backbone(folder.files, folder.manifest.record))
    with np.load(order["inputs"], allow_pickle=False) as arrays:
        given = {name: arrays[name] for name in arrays.files}
    module = torch.compile(backbone.module) if order["compiled"] else backbone.module

    def run() -> None:
        with torch.inference_mode():
            module(*backbone.front.tensors(given))

    report(run, started, order["seconds"])


if __name__ == "__main__":
    main()
