"""`tlhub pull` over a hub, servers and files of this machine, as a user runs it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loopback_hub import Hub, running
from terminal import TLHUB, Run

Files = dict[str, bytes]
Pull = Callable[..., subprocess.CompletedProcess[str]]
HEADER = b'{"x": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}'
LONE = len(HEADER).to_bytes(8, "little") + HEADER + bytes(9)  # safetensors
CARD = b"---\nlicense: mit\n---\n# A model\n"


@pytest.fixture
def hub() -> Iterator[Hub]:
    yield from running()


@pytest.fixture
def env(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """A machine of its own, which knows no other hub."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "TLHUB_HOME": str(tmp_path / "home"),
    }


@pytest.fixture
def pull(tlhub: Run, env: dict[str, str]) -> Pull:
    def run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return tlhub("pull", *arguments, env={**env, **more})

    return run


def document(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def tiny(**more: bytes) -> Files:
    """A repository with the same weights in two formats."""
    return {
        "config.json": b'{"model_type": "bert", "architectures": ["BertModel"]}',
        "model.safetensors": (b"\xff" + os.urandom(7)) * 5000,
        "pytorch_model.bin": (b"\xff" + os.urandom(7)) * 5000,
        "onnx/model.onnx": (b"\xff" + os.urandom(7)) * 5000,
        "README.md": CARD,
        **more,
    }


SAVE = """
import sys, timm, torch
from timm.models import save_for_hf
from transformers import BertConfig, BertModel
torch.manual_seed(0)
BertModel(BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=37, max_position_embeddings=64)).save_pretrained(sys.argv[1])
model = timm.create_model("test_byobnet", num_classes=3)
for module in model.modules():  # so that no branch is muted
    if isinstance(module, torch.nn.BatchNorm2d):
        torch.nn.init.uniform_(module.weight, 0.5, 1.5)
save_for_hf(model, sys.argv[2], safe_serialization="both",
    model_config={"label_names": ["ant", "bee", "cat"]})
"""
LOAD = """
import sys, timm, torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel
saved = load_file(sys.argv[1])
for name in ("acme/bert", sys.argv[2]):
    loaded = AutoModel.from_pretrained(name, local_files_only=True).state_dict()
    assert loaded.keys() >= saved.keys() and all((loaded[n] == saved[n]).all() for n in saved)
model = timm.create_model("hf-hub:acme/insects", pretrained=True).eval()
config = timm.data.resolve_data_config({}, model=model)
image = timm.data.create_transform(**config)(Image.open(sys.argv[3]))
print(*model(image[None]).softmax(1)[0].tolist())
"""


def python(code: str, *arguments: object, **env: str) -> str:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_transformers_and_timm_load_what_was_pulled_and_tlhub_converts(
    hub: Hub, pull: Pull, tlhub: Run, env: dict[str, str], tmp_path: Path
) -> None:
    python(SAVE, tmp_path / "bert", tmp_path / "insects")
    for name in ("bert", "insects"):
        files = {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
        hub.put(f"acme/{name}", {"pytorch_model.bin": b"x" * 20_000, **files})
    hub.said["acme/insects"] = {"library_name": "timm", "cardData": {"license": "apache-2.0"}}

    bert = document(pull("hf:acme/bert", "--json"))
    assert (bert["uid"], bert["format"], bert["onnx"]) == ("hf/acme/bert", "original", None)
    assert "it has no tokenizer" in str(bert["no_onnx"])
    assert set(bert["files"]) == {"config.json", "model.safetensors"}  # type: ignore[call-overload]
    weights = Path(str(bert["path"])) / "model.safetensors"
    assert weights.is_symlink()
    assert (tmp_path / "hf") in weights.resolve().parents

    timm = document(pull("hf:acme/insects", "--json"))
    assert (timm["format"], timm["no_onnx"], timm["license"]) == ("onnx", None, "Apache-2.0")
    assert timm["parity"]["max_rel_diff"] < 1e-5  # type: ignore[index]
    manifest = json.loads((Path(str(timm["path"])) / "tlhub.json").read_text())
    (artifact,) = manifest["record"]["artifacts"]
    assert artifact["urls"] == [f"hf:acme/insects@{hub.commit('acme/insects')}!model.safetensors"]
    assert hub.asked("pytorch_model.bin") == []

    photo = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 255, (200, 150, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo)
    hub.refused = (500, {})  # from here on what is here has to do
    said = tlhub("predict", "hf:acme/insects", photo, "--offline", "--json", env=env)
    (answer,) = json.loads(said.stdout)
    scores = {p["label"]: p["score"] for p in answer["predictions"]}
    assert pull("hf:acme/insects", "--format", "original", "--offline").returncode == 0
    saved = tmp_path / "bert" / "model.safetensors"
    theirs = python(LOAD, saved, bert["path"], photo, **env, HF_HUB_OFFLINE="1").split()
    expected = dict(zip(["ant", "bee", "cat"], map(float, theirs), strict=True))
    assert scores == pytest.approx(expected, abs=2e-3)


def test_a_dry_run_says_what_would_come_and_fetches_no_weights(hub: Hub, pull: Pull) -> None:
    files = tiny()
    hub.put("acme/bert", files, cardData={"license": "mit"}, gated="manual")
    plan = document(pull("hf:acme/bert", "--dry-run", "--json"))
    needed = ["config.json", "model.safetensors", "README.md"]
    listed = {file["path"]: file["size_bytes"] for file in plan["files"]}  # type: ignore[attr-defined]
    assert listed == {name: len(files[name]) for name in needed}
    assert (plan["license"], plan["gated"]) == ("MIT", True)
    assert plan["size_bytes"] == sum(listed.values())
    assert hub.asked("model.safetensors") == []
    assert document(pull("hf:acme/bert", "--json"))["fetched_bytes"] == plan["missing_bytes"]
    again = document(pull("hf:acme/bert", "--dry-run", "--json", "--offline"))
    assert again["missing_bytes"] == 0
    assert all(file["here"] for file in again["files"])  # type: ignore[attr-defined]
    text = pull("hf:acme/bert", "--dry-run").stdout
    assert "license: MIT" in text
    assert "to fetch: 0 B of 40.1 kB" in text


def test_a_copy_is_made_of_real_files_whole_or_not_at_all(
    hub: Hub, pull: Pull, tmp_path: Path
) -> None:
    files = tiny()
    hub.put("acme/bert", files)
    out = tmp_path / "copy"
    options = ("--format", "original", "--out", out)
    wrong = hub.repos["acme/bert"]["model.safetensors"]
    wrong.sent = wrong.body[::-1]
    assert pull("hf:acme/bert", *options).returncode == 6
    assert not out.exists()
    wrong.sent = None
    assert pull("hf:acme/bert", *options, "-q").stdout == f"{out}\n"
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert (out / "model.safetensors").read_bytes() == files["model.safetensors"]
    exists = pull("hf:acme/bert", *options)
    assert exists.returncode == 2
    assert "exists already" in exists.stderr
    chosen = ("--include", "onnx/", "--include", "*.json", "--force")
    assert pull("hf:acme/bert", *options, *chosen).returncode == 0
    assert {p.name for p in out.iterdir()} == {"onnx", "config.json", "tlhub.json"}
    assert pull("hf:acme/bert", "x/y", "--out", tmp_path / "two").returncode == 2


def test_a_folder_that_is_here_is_copied_and_not_made_of_other_files(
    hub: Hub, pull: Pull, tmp_path: Path
) -> None:
    hub.put("acme/bert", tiny())
    folder = pull("hf:acme/bert", "--format", "original", "-q").stdout.strip()
    out = tmp_path / "copy"
    assert pull(folder, "--out", out, "-q").stdout == f"{out}\n"
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert {p.name for p in out.iterdir()} == {p.name for p in Path(folder).iterdir()}
    assert "exists already" in pull(folder, "--out", out).stderr
    assert pull(folder, "--out", out, "--force").returncode == 0
    for options in (("--include", "*.json"), ("--precision", "fp16"), ("--force",)):
        assert pull(folder, *options).returncode == 2


def test_several_models_come_in_turn_and_by_standard_input(
    hub: Hub, pull: Pull, env: dict[str, str], tmp_path: Path
) -> None:
    hub.put("acme/one", tiny())
    hub.put("acme/two", tiny())
    lone = tmp_path / "w.safetensors"
    lone.write_bytes(LONE)
    digest = hashlib.sha256(lone.read_bytes()).hexdigest()
    both = document(pull("hf:acme/one", f"{lone.as_uri()}#sha256={digest}", "--json"))
    assert [m["uid"] for m in both["models"]] == ["hf/acme/one", "file/w.safetensors"]  # type: ignore[attr-defined]
    piped = subprocess.run(
        [TLHUB, "pull", "-", "-q"],
        input="# mine\nhf:acme/one\n\nhf:acme/two\n",
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    paths = [Path(line) for line in piped.stdout.splitlines()]
    assert [p.name.rpartition("-")[0] for p in paths] == ["hf--acme--one", "hf--acme--two"]
    hub.log.clear()
    typo = pull("hf:acme/two", "hf:acme/thre", "--force")  # looked up before anything is fetched
    assert typo.returncode == 3
    assert hub.asked("/resolve/") == []


def test_a_record_known_by_its_repository_is_pulled_like_it(
    hub: Hub, pull: Pull, env: dict[str, str]
) -> None:
    uid, repo = "timm/aimv2_1b_patch14_224.apple_pt", "timm/aimv2_1b_patch14_224.apple_pt"
    hub.put(repo, tiny(**{"config.json": b'{"architecture": "x"}'}))
    done = document(pull(uid, "--format", "original", "--json"))
    assert set(done["files"]) == {"model.safetensors", "config.json", "README.md"}  # type: ignore[call-overload]
    record = json.loads((Path(str(done["path"])) / "tlhub.json").read_text())["record"]
    assert record["uid"] == uid
    assert {url for a in record["artifacts"] for url in a["urls"]} == {
        f"hf:{repo}@{hub.commit(repo)}!{name}"
        for name in done["files"]  # type: ignore[attr-defined]
    }
    assert document(pull(uid, "--format", "original", "--json", "--offline"))["fetched_bytes"] == 0


def test_originals_load_no_framework(hub: Hub, env: dict[str, str]) -> None:
    hub.put("acme/bert", tiny())
    code = (
        "import sys, tlhub\n"
        "tlhub.pull('hf:acme/bert', format='original')\n"
        "tlhub.pull('hf:acme/bert')\n"
        "print(*sorted({'torch', 'timm', 'onnx', 'onnxruntime', 'transformers'} & {*sys.modules}))"
    )
    assert python(code, **env) == "\n"


def test_what_cannot_be_converted_is_not_fetched_to_predict(
    hub: Hub, tlhub: Run, env: dict
) -> None:
    hub.put("acme/bert", tiny())
    done = tlhub("predict", "hf:acme/bert", "photo.png", env=env)
    assert done.returncode == 1
    assert "it has no tokenizer" in done.stderr
    assert hub.asked("model.safetensors") == []


@pytest.mark.parametrize(
    ("argument", "code", "said"),
    [
        ("hf:acme/none", 3, "there is no acme/none"),
        ("hf:acme", 2, "hf:owner/name"),
        ("hf:acme/bert --precision fp16", 3, "no weights in fp16"),
        ("hf:acme/bert --include *.gguf", 3, "no file is left"),
        ("hf:acme/bert --offline", 5, "not known here"),
        ("pypi:nothing", 2, "pypi:name==version"),
        ("s3:///x", 2, "names no bucket"),
        ("https://127.0.0.1/", 2, "names no file"),
        (f"hf:{'a' * 300}/b", 3, "there is no aaa"),
        ("a" * 5000, 3, "no model"),
        ("~nobody-of-this-name/net", 3, "no model"),
        ("file://models/net.bin", 2, "file:///models/"),
    ],
)
def test_what_cannot_be_pulled_is_said(
    hub: Hub, pull: Pull, argument: str, code: int, said: str
) -> None:
    hub.put("acme/bert", tiny())
    done = pull(*argument.split())
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["pull", "lock"])
def test_a_license_that_is_not_allowed_fetches_nothing(
    hub: Hub, tlhub: Run, env: dict[str, str], tmp_path: Path, command: str
) -> None:
    hub.put("acme/bert", tiny(), cardData={"license": "cc-by-nc-4.0"})
    with zipfile.ZipFile(tmp_path / "x-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("x/w.safetensors", LONE)
    (tmp_path / "w.safetensors").write_bytes(LONE)
    found = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    out = ("-o", tmp_path / "set.lock") if command == "lock" else ("--format", "original")
    for model in ("hf:acme/bert", "pypi:x==1", (tmp_path / "w.safetensors").as_uri()):
        strict = {**env, **found, "TLHUB_ALLOW_LICENSES": "mit"}
        done = tlhub(command, model, *out, env=strict)
        assert done.returncode == 4, done.stderr
        assert "allow_licenses" in done.stderr
    assert not hub.asked("/resolve/")
    assert not [path for path in (tmp_path / "home" / "blobs").rglob("*") if path.is_file()]
    assert not (tmp_path / "set.lock").exists()
    allowed = {**env, **found, "TLHUB_ALLOW_LICENSES": "unknown"}
    assert tlhub(command, "pypi:x==1", *out, env=allowed).returncode == 0


def test_a_name_that_is_too_long_for_the_disk_is_said(pull: Pull, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"abc")
    with zipfile.ZipFile(tmp_path / "x-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("a" * 300, b"abc")
    found = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    done = pull(f"pypi:x==1!{'a' * 300}", "--format", "original", **found)
    assert done.returncode == 1, done.stderr
    assert "name too long" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_pull_of_originals_leaves_no_folder_and_goes_on(
    hub: Hub, pull: Pull, env: dict[str, str], tmp_path: Path
) -> None:
    hub.put("acme/bert", tiny(**{"model.safetensors": os.urandom(5_000_000)}))
    file = hub.repos["acme/bert"]["model.safetensors"]
    file.pause_s = 0.02
    command = [TLHUB, "pull", "hf:acme/bert", "--progress", "json"]
    with subprocess.Popen(
        command, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        events = (json.loads(line) for line in process.stderr)
        assert any(event.get("done", 0) > 2_000_000 for event in events)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not list((tmp_path / "home").glob("models/[!.]*"))
    file.pause_s = 0
    hub.log.clear()
    done = document(pull("hf:acme/bert", "--json"))
    assert (Path(str(done["path"])) / "model.safetensors").read_bytes() == file.body
    first = next(h for _, path, h in hub.log if path.endswith("model.safetensors"))
    assert first["range"].startswith("bytes=")


def test_mirrors_of_the_settings_come_first(hub: Hub, pull: Pull, tmp_path: Path) -> None:
    lone = tmp_path / "mirror" / "models" / "w.safetensors"
    lone.parent.mkdir(parents=True)
    lone.write_bytes(LONE)
    digest = hashlib.sha256(lone.read_bytes()).hexdigest()
    mirrors = f"https://127.0.0.1:9/={(tmp_path / 'mirror').as_uri()}/"
    url = f"https://127.0.0.1:9/models/w.safetensors#sha256={digest}"
    done = document(pull(url, "--json", TLHUB_MIRRORS=mirrors))
    record = json.loads((Path(str(done["path"])) / "tlhub.json").read_text())["record"]
    assert record["artifacts"][0]["urls"] == [url]
    assert pull(url, TLHUB_MIRRORS="nonsense").returncode == 2
