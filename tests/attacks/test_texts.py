"""Repositories of text models that want to run code, lie about sizes, or point elsewhere."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import msgspec
import pytest
import torch
from tiny_texts import network, record_of, save

from catalog.errors import ConversionError, IntegrityError, TlhubError, UnsafeError
from converters.convert import convert
from converters.frameworks import transformers as framework
from converters.registry import load_backbone


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """The file that a payload makes when it runs."""
    return tmp_path / "it-ran"


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return network("bert")


def _changed(file: Path, **more: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **more}))


def _refused(files, model, tmp_path) -> str:
    """Refused at once, with a reason, and nothing is left."""
    started = time.monotonic()
    with pytest.raises(TlhubError) as caught:
        convert(record_of(model), files, tmp_path / "out")
    assert time.monotonic() - started < 60
    assert not (tmp_path / "out").exists()
    return caught.value.message


def test_code_of_the_repository_is_never_run(model, trap, tmp_path):
    files = save(model, tmp_path / "in")
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py"):
        (tmp_path / "in" / name).write_text(f"open({str(trap)!r}, 'w')\nclass Evil: pass\n")
        files[name] = tmp_path / "in" / name
    _changed(files["config.json"], auto_map={"AutoModel": "modeling_evil.Evil"})
    assert "wants code of its own" in _refused(files, model, tmp_path)
    _changed(files["config.json"], auto_map=None, trust_remote_code=True)
    said = {"auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]}}
    _changed(files["tokenizer_config.json"], tokenizer_class="Evil", **said)
    load_backbone(files, record_of(model))  # what is left is a plain encoder
    assert not trap.exists()


def test_a_tokenizer_class_of_the_repository_is_not_imported(model, trap, tmp_path):
    files = save(model, tmp_path / "in")
    del files["tokenizer.json"]
    code = tmp_path / "in" / "tokenization_evil.py"
    code.write_text(f"open({str(trap)!r}, 'w')\n")
    (tmp_path / "in" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    files |= {"tokenization_evil.py": code, "vocab.txt": tmp_path / "in" / "vocab.txt"}
    said = {"AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"]}
    _changed(files["tokenizer_config.json"], auto_map=said, tokenizer_class="Evil")
    try:
        load_backbone(files, record_of(model))
    except ConversionError as error:
        assert "cannot be made of" in error.message  # noqa: PT017 - either is well
    assert not trap.exists()


def test_a_module_or_activation_of_the_repository_is_never_imported(model, trap, tmp_path):
    dense = {"linear.weight": torch.zeros(8, 32), "linear.bias": torch.zeros(8)}
    sizes = {"in_features": 32, "out_features": 8}
    modules = [
        ("Pooling", {"pooling_mode": "mean"}),
        ("Dense", {**sizes, "activation_function": "os.system"}),
    ]
    files = save(model, tmp_path / "in", modules=modules, tensors={"2_Dense": dense})
    assert "its activation, os.system" in _refused(files, model, tmp_path)
    listed = json.loads(files["modules.json"].read_text())
    for type_, said in (
        ("custom_st.Evil", "code of its own"),
        ("sentence_transformers.models.CNN", "models.CNN is not converted"),
        ("sentence_transformers_evil.models.Dense", "code of its own"),
    ):
        listed[2]["type"] = type_
        files["modules.json"].write_text(json.dumps(listed))
        assert said in _refused(files, model, tmp_path)


@pytest.mark.parametrize("path", ["../../etc", "/etc", "a/../../b", "..\\x"])
def test_modules_outside_of_the_folder_are_refused(path, model, tmp_path):
    files = save(model, tmp_path / "in", modules=[("Pooling", {"pooling_mode": "mean"})])
    listed = json.loads(files["modules.json"].read_text())
    listed[1]["path"] = path
    files["modules.json"].write_text(json.dumps(listed))
    with pytest.raises(UnsafeError, match="outside of its folder"):
        load_backbone(files, record_of(model))


def test_pickled_weights_with_code_are_refused(model, trap, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {trap}",)

    files = save(model, tmp_path / "in")
    del files["model.safetensors"]
    pickled = tmp_path / "in" / "pytorch_model.bin"
    torch.save({**model.state_dict(), "evil": Payload()}, pickled)
    files[pickled.name] = pickled
    with pytest.raises(UnsafeError, match="system"):
        load_backbone(files, record_of(model))
    assert not trap.exists()
    torch.save(model.state_dict(), pickled)
    load_backbone(files, record_of(model))


@pytest.mark.parametrize(
    "absurd",
    [
        {"hidden_size": 10**9, "num_attention_heads": 4},
        {"hidden_size": 2 * 10**6},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 999},
        {"vocab_size": 10**12},
        {"vocab_size": 2 * 10**9},
        {"intermediate_size": 2 * 10**9},
        {"max_position_embeddings": 2 * 10**9},
        {"num_labels": 10**9},
        {"type_vocab_size": -5},
        {"hidden_size": "many"},
        {"hidden_act": "os.system"},
        {"num_attention_heads": 0},
        {"pad_token_id": 10**8},
        {"layer_norm_eps": float("1e300")},
    ],
    ids=str,
)
def test_absurd_figures_are_refused_in_time_and_memory(absurd, model, tmp_path):
    files = save(model, tmp_path / "in")
    _changed(files["config.json"], **absurd)
    _refused(files, model, tmp_path)


def test_how_to_compute_is_not_for_the_repository_to_say(model, tmp_path, monkeypatch):
    """transformers would fetch a kernel of this name from a hub."""
    files = save(model, tmp_path / "in")
    _changed(
        files["config.json"],
        _attn_implementation="evil/kernel",
        attn_implementation="evil/kernel",
        torch_dtype="float16",
    )
    loaded = load_backbone(files, record_of(model)).module.model
    assert loaded.config._attn_implementation == "sdpa"
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}


def test_a_tokenizer_that_is_missing_broken_or_of_another_model_is_said(model, tmp_path):
    files = save(model, tmp_path / "in")
    tokenizer = files.pop("tokenizer.json")
    with pytest.raises(ConversionError, match="it has no tokenizer"):
        load_backbone(files, record_of(model))
    files["tokenizer.json"] = tokenizer
    content = json.loads(tokenizer.read_text())
    content["model"]["vocab"] |= {f"more{n}": 300 + n for n in range(300)}
    tokenizer.write_text(json.dumps(content))
    with pytest.raises(ConversionError, match="do not belong together"):
        load_backbone(files, record_of(model))
    tokenizer.write_text("{")
    with pytest.raises(IntegrityError, match="is no tokenizer"):
        load_backbone(files, record_of(model))


@pytest.mark.parametrize("name", ["config.json", "modules.json", "1_Pooling/config.json"])
@pytest.mark.parametrize("content", [b"", b"[", b"[" * 100_000, b'"x"', b"\xff\xfe", b"{}"])
def test_configurations_that_make_no_sense_are_said(name, content, model, tmp_path):
    files = save(model, tmp_path / "in", modules=[("Pooling", {"pooling_mode": "mean"})])
    files[name].write_bytes(content)
    with pytest.raises((ConversionError, IntegrityError, UnsafeError)):
        load_backbone(files, record_of(model))


def test_a_missing_library_is_named(monkeypatch):
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, framework.__name__)
    monkeypatch.delitem(sys.modules, "converters.pretrained")
    monkeypatch.delattr("converters.pretrained")
    with pytest.raises(ConversionError, match="not installed") as caught:
        importlib.import_module(framework.__name__)
    assert "pip install" in caught.value.hint


def test_an_unknown_type_is_not_looked_up(model, tmp_path):
    files = save(model, tmp_path / "in")
    _changed(files["config.json"], model_type="../evil")
    record = msgspec.structs.replace(record_of(model), framework="transformers")
    with pytest.raises(ConversionError, match="not converted yet"):
        load_backbone(files, record)
