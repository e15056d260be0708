"""`tlhub compare`, `similar`, `show` and `catalog plot` on the catalog that ships."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import tlhub
from catalog.errors import UsageError
from catalog.record import ModelRecord
from tlhub import snippets
from tlhub.cli.main import app

A1 = "timm/resnet50.a1_in1k"
V2 = "torchvision/resnet50.IMAGENET1K_V2"
Cli = Callable[..., Result]


@pytest.fixture
def cli(home: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("TLHUB_HOME", str(home))
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str, columns: int | None = None) -> Result:
        if columns:
            monkeypatch.setenv("COLUMNS", str(columns))
        return CliRunner().invoke(app, list(arguments))

    return run


def test_compare_marks_what_differs_and_nothing_else(cli: Cli) -> None:
    lines = cli("compare", A1, V2, columns=160).stdout.splitlines()
    assert lines[0].split() == ["uid", A1, V2]
    marked = {re.split(r"  +", line)[1] for line in lines if line.startswith("*")}
    assert {"architecture", "preprocessing", "license", "top1 on imagenet-1k"} <= marked
    assert not marked & {"task", "params", "classes"}
    params = next(line for line in lines if "params" in line)
    assert params.count("25.6M (25,557,032)") == 2


@pytest.mark.parametrize("columns", [30, 60])
def test_compare_fits_a_narrow_terminal(cli: Cli, columns: int) -> None:
    text = cli("compare", A1, V2, "keras/ResNet50", columns=columns).stdout
    lines = text.splitlines()
    assert max(map(len, lines)) <= columns
    assert "*  architecture" in lines
    assert "1  resnet50 (timm)" in lines
    assert lines.count("   image-classification") == 1  # what is alike is said once


def test_compare_as_json(cli: Cli) -> None:
    answer = json.loads(cli("compare", A1, V2, "--json").stdout)
    assert [model["uid"] for model in answer["models"]] == [A1, V2]
    assert {"framework", "license", "evals"} <= set(answer["differences"])
    assert not {"uid", "task", "params", "provenance"} & set(answer["differences"])


def test_compare_says_that_two_uids_are_the_same_weights(cli: Cli) -> None:
    done = cli("compare", "timm/resnet50.tv2_in1k", V2)
    assert "the same weights" in done.stderr
    assert "*" not in done.stdout
    assert isinstance(cli("compare", A1).exception, UsageError)


def test_similar_finds_the_same_network_of_other_publishers(cli: Cli) -> None:
    answer = json.loads(cli("similar", A1, "--limit", "8", "--json").stdout)
    assert answer["uid"] == A1
    assert len(answer["items"]) == 8
    assert V2 in {item["uid"] for item in answer["items"]}
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert all(item["reasons"] for item in answer["items"])
    assert all(item["task"] == "image-classification" for item in answer["items"])
    quiet = cli("similar", A1, "--limit", "8", "-q").stdout.split()
    assert quiet == [item["uid"] for item in answer["items"]]
    assert "same architecture resnet50" in cli("similar", A1, columns=120).stdout


def test_plot_writes_a_file_and_names_the_front(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "plot.svg"
    done = cli("catalog", "plot", "--task", "image-classification", "--out", str(out), "--json")
    answer = json.loads(done.stdout)
    assert answer["models"] > 1000
    figures = [(p["x"], p["y"]) for p in answer["front"]]
    assert figures == sorted(figures)
    assert [y for _, y in figures] == sorted(y for _, y in figures)
    assert out.read_text(encoding="utf-8").count("<circle") == answer["models"]
    quiet = cli("catalog", "plot", "--source", "torchvision", "--out", str(out), "-q")
    assert quiet.stdout.split() == [str(out)]
    assert out.read_text(encoding="utf-8").count("<circle") < 200


def test_show_has_the_other_homes_and_how_to_use_it(cli: Cli) -> None:
    text = cli("show", V2, columns=200).stdout
    assert "same weights     timm/resnet50.tv2_in1k" in text
    for line in (
        f"tlhub pull {V2}",
        f'model = tlhub.load("{V2}")',
        'model = torchvision.models.get_model("resnet50", weights="IMAGENET1K_V2")',
        'model = timm.create_model("resnet50.tv2_in1k", pretrained=True)',
        'session = onnxruntime.InferenceSession("model.onnx")',
    ):
        assert line in text.splitlines()
    text = cli("show", "fastembed/BAAI/bge-base-en-v1.5", columns=200).stdout
    assert "BAAI/bge-base-en-v1.5 (quantized)" in text
    assert "tlhub pull" not in text


@pytest.mark.parametrize(
    ("uid", "line"),
    [
        ("keras/Xception", 'keras.applications.Xception(weights="imagenet")'),
        (
            "keras/MobileNetV3Small_minimalistic_1.0_224",
            "alpha=1.0, input_shape=(224, 224, 3), minimalistic=True)",
        ),
        ("keras-hub/bert_base_en", 'keras_hub.models.Backbone.from_preset("bert_base_en")'),
        (
            "open_clip/ViT-B-32/openai",
            'open_clip.create_model_and_transforms("ViT-B-32", pretrained="openai")',
        ),
    ],
)
def test_a_snippet_is_in_the_words_of_its_library(uid: str, line: str) -> None:
    (snippet,) = snippets.of(ModelRecord(uid=uid))
    assert line in snippet.code
    ast.parse(snippet.code)


def test_no_name_can_leave_its_quotes() -> None:
    assert snippets.of(ModelRecord(uid="keras/A(); import os")) == ()
    (snippet,) = snippets.of(ModelRecord(uid='timm/a");import os;("'))
    tree = ast.parse(snippet.code)
    assert [type(node) for node in tree.body] == [ast.Import, ast.Assign]


def test_the_catalog_is_iterated_and_its_name_hides_no_package(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import catalog.record

    monkeypatch.setenv("TLHUB_HOME", str(home))
    assert isinstance(next(iter(tlhub.catalog())), catalog.record.ModelRecord)
    assert sum(1 for _ in tlhub.catalog()) == tlhub.search(limit=1).total
