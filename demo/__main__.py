"""`python -m demo`: run the main job, echoing each command as a user would type it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import skimage

from demo import stamps

DATA = Path("data")
RUN = Path("runs/demo")
MODEL = "pypi/efficientnet-lite0"


def main() -> int:
    """Run every step, stop at the first that fails, and return its exit code."""
    began = time.monotonic()
    cat = DATA / "cat.png"
    DATA.mkdir(exist_ok=True)
    shutil.copy(Path(skimage.__file__).parent / "data" / "chelsea.png", cat)
    mobile = ["--task", "image-classification", "--params", "<10M", "--sort", "top1"]
    steps = [
        ["search", "mobile image classifier", *mobile, "--limit", "8"],
        ["show", MODEL],
        ["pull", MODEL],
        ["predict", MODEL, str(cat)],
    ]
    code = next(filter(None, map(tlhub, steps)), 0)
    if code:
        return code
    say("# labelled photos: the stamps of Tux Paint, from Debian, unpacked without root")
    photos = stamps.provide(DATA / "stamps")
    code = tlhub(["finetune", MODEL, "--data", str(photos), "--out", str(RUN), "--force"])
    if code:
        return code
    metrics = json.loads((RUN / "metrics.json").read_text(encoding="utf-8"))
    held_out = photos / metrics["split"]["test"][0]
    code = tlhub(["predict", str(RUN), str(held_out), "--top", "3"])
    if code:
        return code
    say(f"# done in {time.monotonic() - began:.0f} s; the report is {RUN / 'report.html'}")
    print(f"held-out accuracy {metrics['accuracy']:.3f}")
    for name, accuracy in metrics["baselines"].items():
        print(f"  {name.replace('_', ' '):<15} {accuracy:.3f}", flush=True)
    return 0


def tlhub(arguments: list[str]) -> int:
    """Echo and run one command of this environment's tlhub."""
    say("$ " + shlex.join(["tlhub", *arguments]))
    command = Path(sys.executable).with_name("tlhub")
    return subprocess.run([command, *arguments], check=False).returncode


def say(text: str) -> None:
    """Print a line of our own so that it stands out from what the commands print."""
    bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(f"\n\033[1m{text}\033[0m" if bold else f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
