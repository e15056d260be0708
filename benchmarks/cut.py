"""What choosing where to cut brings, on a transformer and on a residual network.

    python -m benchmarks.cut [--family vit resnet] [--epochs 2] [--n 5 20 100] [--seeds 0 1 2]

No package brings photo weights of these families, so that the networks are our own: small ones of
transformers, trained on the 60,000 pictures of Fashion-MNIST (`data/cut-vit`, `data/cut-resnet`;
minutes for the one, half an hour for the other) and transferred to the digits. Printed are the
accuracy on 599 of these with the head on the embedding and with the cut that was chosen, the size
of both files, and where the cut is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch.nn import functional

import tlhub
from benchmarks.finetune.sets import DATA, fashion, write
from converters.folder import ModelFolder
from finetuning.finetune import METRICS, finetune

_SIDE, _BATCH, _WARM = 32, 128, 200  # pixels, pictures, steps
_SHIFT = 2  # pixels, at most, by which a batch is moved
_CLASSES = 10


def main() -> None:
    """Print a table, a row for each draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cut", description=__doc__)
    parser.add_argument("--family", nargs="+", choices=sorted(MADE), default=sorted(MADE))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--n", nargs="+", type=int, default=[5, 20, 100])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    for family in given.family:
        source = DATA / f"cut-{family}"
        if not source.exists():
            _train(family, given.epochs, source)
        with tempfile.TemporaryDirectory() as place:
            tlhub.convert(source, out=Path(place, "base"))
            base = ModelFolder.open(Path(place, "base"))
            print(f"{'':8}   n seed  embedding  MB    cut  MB")
            for n in given.n:
                for seed in given.seeds:
                    _measure(family, base, n, seed, Path(place, f"{n}-{seed}"))


def _measure(family: str, base: ModelFolder, n: int, seed: int, place: Path) -> None:
    place.mkdir()
    data, row = write(place / "data", "digits", n, seed), f"{family:8}{n:4} {seed:4}"
    for cut in (False, True):
        out, cache = place / f"run-{cut}", place / "features"
        run = finetune(base, data, out, seed=seed, cut=cut, cache=cache, device="cpu")
        metrics = json.loads((run.path / METRICS).read_bytes())
        row += f"  {100 * metrics['accuracy']:9.1f} {run.onnx.stat().st_size / 1e6:3.1f}"
    print(f"{row}  {' + '.join(metrics['stages'])}", flush=True)


def _vit(labels: dict[str, Any]) -> Any:
    configuration = transformers.ViTConfig(
        hidden_size=96,
        num_hidden_layers=8,
        num_attention_heads=3,
        intermediate_size=288,
        image_size=_SIDE,
        patch_size=4,
        **labels,
    )
    return transformers.ViTForImageClassification(configuration)


def _resnet(labels: dict[str, Any]) -> Any:
    configuration = transformers.ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128, 256],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        **labels,
    )
    return transformers.ResNetForImageClassification(configuration)


MADE = {"resnet": (_resnet, 2e-3), "vit": (_vit, 1e-3)}  # with its rate of learning


def _train(family: str, epochs: int, out: Path) -> None:
    """A network that knows garments, as transformers saves it."""
    torch.manual_seed(0)
    make, rate = MADE[family]
    names = {n: f"class {n}" for n in range(_CLASSES)}
    network = make({"id2label": names, "label2id": {name: n for n, name in names.items()}})
    pictures, labels, _, held = fashion()
    learn = np.setdiff1d(np.arange(len(labels)), held)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05)
    steps = epochs * (len(learn) // _BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / _WARM) * (1 + np.cos(np.pi * step / steps)) / 2,
    )
    random = np.random.default_rng(0)
    for step in range(steps):
        some = random.choice(learn, _BATCH, replace=False)
        seen = _tensor([pictures[n] for n in some])
        seen = seen.flip(-1) if random.random() < 0.5 else seen
        seen = seen.roll(tuple(random.integers(-_SHIFT, _SHIFT + 1, 2).tolist()), (2, 3))
        said = network(seen).logits
        loss = functional.cross_entropy(said, torch.from_numpy(labels[some]), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"{family}: step {step} of {steps}, loss {loss:.2f}", flush=True)
    network.eval().save_pretrained(out)
    mean, size = [0.5] * 3, {"height": _SIDE, "width": _SIDE}
    transformers.ViTImageProcessor(size=size, image_mean=mean, image_std=mean).save_pretrained(out)


def _tensor(pictures: list[NDArray[np.uint8]]) -> torch.Tensor:
    """Grey pictures of 28 pixels as three channels of 32, from -1 to 1."""
    edge = (_SIDE - 28) // 2
    padded = np.pad(np.stack(pictures), ((0, 0), (edge, edge), (edge, edge)))
    return torch.from_numpy(padded)[:, None].expand(-1, 3, -1, -1) / 127.5 - 1


if __name__ == "__main__":
    main()
