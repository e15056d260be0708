"""One run of another tool on a folder that `benchmarks.finetune` wrote, by that tool's Python.

    python peers.py HOW DATA --base FOLDER [--arch NAME --side PIXELS --mean M --std S] [--seed N]

``DATA`` has `train` and `test`, with a folder a class or a `.csv` each; ``FOLDER`` the pretrained
weights. Prints one line of JSON: accuracy on all of `test`, and the seconds and processor seconds
from the files of `train` to a model that is ready (not: importing, asking it of `test`).

- `fastai`: `vision_learner` and `fine_tune(5)`, nothing else said; `fastai-lr-find`: as its
  tutorial does, with `aug_transforms` and the rate that `lr_find` suggests.
- `trainer`: transformers' `Trainer` on timm's network, by the figures of its guide for images.
- `sklearn`: `LogisticRegressionCV` on timm's last-layer features.
- `setfit`: `SetFitTrainer`'s defaults, one epoch. `words`: TF-IDF and logistic regression.

Batches are of 16 where there are fewer than 500 pictures, as fastai's 64 leaves too few steps.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EPOCHS = 5
Ask = Callable[[], list[str]]  # of all of `test`


def fastai(given: argparse.Namespace, *, find: bool = False) -> Ask:
    """A learner that was tuned."""
    import torch
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        ImageBlock,
        IndexSplitter,
        Resize,
        aug_transforms,
        parent_label,
        set_seed,
        valley,
        vision_learner,
    )

    set_seed(given.seed, reproducible=True)
    files = pictures(given.data / "train")
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=lambda _: [*files, files[0]],
        splitter=IndexSplitter([len(files)]),  # nothing is held back: all examples are learned
        get_y=parent_label,
        item_tfms=Resize(round(given.side * 8 / 7) if find else given.side),
        batch_tfms=aug_transforms(size=given.side, min_scale=0.75) if find else None,
    )
    batch = 64 if len(files) >= 500 else 16
    loaders = block.dataloaders(given.data, bs=batch, num_workers=0, device=torch.device("cpu"))
    learner = vision_learner(loaders, given.arch, pretrained_cfg_overlay=overlay(given))
    with learner.no_bar(), learner.no_logging():
        rates = {"base_lr": learner.lr_find(suggest_funcs=valley).valley} if find else {}
        learner.fine_tune(EPOCHS, **rates)

    def ask() -> list[str]:
        asked = learner.dls.test_dl(pictures(given.data / "test"), num_workers=0, bs=64)
        with learner.no_bar():
            said = learner.get_preds(dl=asked)[0].argmax(1)
        return [learner.dls.vocab[int(n)] for n in said]

    return ask


def fastai_lr_find(given: argparse.Namespace) -> Ask:
    """As its tutorial has it."""
    return fastai(given, find=True)


def trainer(given: argparse.Namespace) -> Ask:
    """A network of timm by transformers' Trainer, as its guide to image classification has it."""
    import tempfile

    import timm
    import torch
    from PIL import Image
    from timm.data import create_transform
    from torch.utils.data import Dataset
    from transformers import Trainer, TrainingArguments

    torch.manual_seed(given.seed)
    files = pictures(given.data / "train")
    names = sorted({file.parent.name for file in files})
    size = {"input_size": given.side, "mean": [given.mean] * 3, "std": [given.std] * 3}

    class Files(Dataset[dict[str, Any]]):
        def __init__(self, files: list[Path], *, training: bool) -> None:
            self.files = files
            more = {"color_jitter": 0.0, "auto_augment": None} if training else {"crop_pct": 1.0}
            self.transform = create_transform(**size, is_training=training, **more)

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, n: int) -> dict[str, Any]:
            picture = Image.open(self.files[n]).convert("RGB")
            label = names.index(self.files[n].parent.name)
            return {"pixel_values": self.transform(picture), "labels": label}

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.timm = timm.create_model(
                given.arch,
                pretrained=True,
                num_classes=len(names),
                pretrained_cfg_overlay=overlay(given),
            )

        def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
            logits = self.timm(pixel_values)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            place,
            learning_rate=5e-5,
            per_device_train_batch_size=16,
            gradient_accumulation_steps=4 if len(files) >= 500 else 1,
            num_train_epochs=3,
            warmup_steps=0.1,
            per_device_eval_batch_size=64,
            seed=given.seed,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        made = Trainer(Network(), arguments, train_dataset=Files(files, training=True))
        made.train()

    def ask() -> list[str]:
        said = made.predict(Files(pictures(given.data / "test"), training=False)).predictions
        return [names[n] for n in said.argmax(1)]

    return ask


def sklearn(given: argparse.Namespace) -> Ask:
    """Logistic regression on what the last layer says, its strength by cross-validation."""
    import numpy as np
    import timm
    import torch
    from PIL import Image
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from timm.data import create_transform

    network = timm.create_model(
        given.arch, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay(given)
    ).eval()
    transform = create_transform(
        given.side, mean=[given.mean] * 3, std=[given.std] * 3, crop_pct=1.0
    )

    def features(files: list[Path]) -> np.ndarray:
        said = []
        with torch.inference_mode():
            for start in range(0, len(files), 64):
                batch = [transform(Image.open(f).convert("RGB")) for f in files[start : start + 64]]
                said.append(network(torch.stack(batch)).numpy())
        return np.concatenate(said)

    files = pictures(given.data / "train")
    labels = [file.parent.name for file in files]
    head = LogisticRegressionCV(Cs=7, cv=5, max_iter=1000, random_state=given.seed)
    fitted = make_pipeline(StandardScaler(), head).fit(features(files), labels)
    return lambda: list(fitted.predict(features(pictures(given.data / "test"))))


def setfit(given: argparse.Namespace) -> Ask:
    """Sentence pairs first, then a head."""
    import tempfile

    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    rows = texts(given.data / "train.csv")
    model = SetFitModel.from_pretrained(str(given.base))
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            place, num_epochs=1, seed=given.seed, save_strategy="no", report_to="none"
        )
        held = Dataset.from_dict({"text": [r[0] for r in rows], "label": [r[1] for r in rows]})
        Trainer(model, arguments, train_dataset=held).train()
    return lambda: [str(said) for said in model.predict(asked(given.data / "test.csv"))]


def words(given: argparse.Namespace) -> Ask:
    """TF-IDF of words and pairs of words, and logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = texts(given.data / "train.csv")
    fitted = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000)
    )
    fitted.fit([row[0] for row in rows], [row[1] for row in rows])
    return lambda: list(fitted.predict(asked(given.data / "test.csv")))


HOW = {
    "fastai": fastai,
    "fastai-lr-find": fastai_lr_find,
    "trainer": trainer,
    "sklearn": sklearn,
    "setfit": setfit,
    "words": words,
}


def pictures(folder: Path) -> list[Path]:
    """All pictures of a part, always in the same order."""
    return sorted(folder.rglob("*.png"))


def texts(file: Path) -> list[list[str]]:
    """Text and label, a row each."""
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))[1:]


def asked(file: Path) -> list[str]:
    """The texts alone."""
    return [row[0] for row in texts(file)]


def overlay(given: argparse.Namespace) -> dict[str, Any]:
    """What timm is told of weights that are at hand."""
    stats = {"mean": (given.mean,) * 3, "std": (given.std,) * 3}
    return {"file": str(given.base / "model.safetensors"), **stats}


def main() -> None:
    """Learn, then ask."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("how", choices=sorted(HOW))
    parser.add_argument("data", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--arch")
    parser.add_argument("--side", type=int)
    parser.add_argument("--mean", type=float)
    parser.add_argument("--std", type=float)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    loaded(given.how)
    began, worked = time.perf_counter(), time.process_time()
    ask = HOW[given.how](given)
    took, work = time.perf_counter() - began, time.process_time() - worked
    said = ask()
    if (given.data / "test.csv").exists():
        truth = [row[1] for row in texts(given.data / "test.csv")]
    else:
        truth = [file.parent.name for file in pictures(given.data / "test")]
    right = [one == other for one, other in zip(said, truth, strict=True)]
    accuracy = sum(right) / len(right)
    print()  # some leave a bar of progress on the line
    print(json.dumps({"accuracy": accuracy, "seconds": took, "cpu_s": work}))


def loaded(how: str) -> None:
    """Import what a tool needs, so that it is not counted."""
    import importlib

    needed = {
        "fastai": ["fastai.vision.all", "timm"],
        "fastai-lr-find": ["fastai.vision.all", "timm"],
        "trainer": ["transformers", "timm", "timm.data"],
        "sklearn": ["timm", "timm.data", "sklearn.linear_model"],
        "setfit": ["setfit", "datasets"],
        "words": ["sklearn.linear_model", "sklearn.feature_extraction.text"],
    }
    for name in needed[how]:
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
