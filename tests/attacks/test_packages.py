"""Packages made to hurt those who harvest them: each is reported, in bounded time and memory."""

from __future__ import annotations

import inspect
import logging
import resource
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import build as builds
from catalog import snapshot
from catalog.build import Source, SourceFile, build
from catalog.errors import IntegrityError, TlhubError, UnsafeError
from catalog.harvesters import package as packages
from catalog.harvesters.openmmlab_configs import Configs
from catalog.harvesters.openmmlab_params import params_of
from catalog.harvesters.openmmlab_sizes import size_of_config
from catalog.harvesters.package import Package
from catalog.harvesters.registry import HARVESTERS, harvester
from catalog.harvesters.yamls import load
from catalog.record import ModelRecord

ASKED = {"timm", "torchvision"}  # installed libraries are asked, and no file is read
OWN = {"wheels"}  # a table of ours

# What every harvester reads; a new one adds its own, or the test below says so.
READ = (
    *("TTS/.models.json", "espnet_model_zoo/table.csv", "fastembed/text/a.py", "open_clip/a.csv"),
    *("keras/src/applications/vgg16.py", "keras/src/applications/mobilenet_v3.py"),
    *("keras_hub/src/models/bert/bert_presets.py", "nemo/collections/asr/a.py"),
    *("mteb/models/model_implementations/a.py", "mteb/languages/iso_639_1_to_3.json"),
    *("ONNX_HUB_MANIFEST.json", "validated/a/README.md", "open_clip/pretrained.py"),
    *("mmdet/.mim/configs/a/metafile.yml", "mmdet/.mim/configs/a/a.py"),
    *("omz_tools/models/public/a/model.yml", "omz_tools/models/public/a/accuracy-check.yml"),
    *("pytorchcv/models/common/model_metainfos.csv", "pytorchcv/models/a.py"),
    *("qai_hub_models/models/a/manifest.yaml", "qai_hub_models/models/a/perf.yaml"),
    *("torchaudio/pipelines/a.py", "torchgeo/models/a.py", "README.md", "LICENSE"),
    *("LICENSE.md", "MODEL_ZOO.md", "benchmark_results.md", "configs/a/README.md"),
    *("keras_cv_attention_models/a/a.py", "docs/zh_CN/models/ImageNet1k/README.md"),
    *("ppcls/configs/ImageNet/a/a.yaml", "docs/model_zoo/csv_tables/a/a.csv"),
    *("gluoncv/model_zoo/model_store.py", "gluoncv/torch/model_zoo/model_store.py"),
    *("hailo_model_zoo/cfg/base/a.yaml", "hailo_model_zoo/cfg/networks/a.yaml"),
    *("projects/a/README.md", "docs/source/tutorials/Model_Zoo.md", "docs/source/model_zoo.md"),
    *("meta/a-3.8.0.json", "models/README.md", "models/a/README.md"),
)

_LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
_MERGES = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join(['*' + a] * 10)}]}}\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
_WRONG_YAML = """\
Models: {Name: [], Weights: {}, Results: 5, Config: [], Metadata: x, In Collection: []}
Collections: [1, null, [], {Name: {}}]
task_type: []
files: [1, {name: [], size: x, checksum: 5, source: {}}]
description: 5
framework: {}
id: []
use_case: {}
technical_details: [1]
"""
_WRONG_PYTHON = """\
a = ModelMeta(name=5, open_weights=True, n_parameters="many", languages=5, license=[], reference=1)
b = ModelMeta(name=None, open_weights=True, modalities=5, training_datasets={1: 2})
presets = {1: 2, "b": {"metadata": 5, "kaggle_handle": []}, "c": None}
backbone_presets = {"d": {"metadata": {"params": "many", "path": 1}, "kaggle_handle": 3}}
supported: list[DenseModelDescription] = [DenseModelDescription(model=5, sources=1, dim="x")]
_VITB32 = dict(openai=5, b=_pcfg(url=5, hf_hub=[], mean="x"))
_PRETRAINED = {"ViT-B-32": _VITB32, 5: []}
BUNDLE = Wav2Vec2Bundle(_path=5, _params=[], _sample_rate="x")
WEIGHTS_HASHES = 5
BASE_WEIGHTS_PATH = ["x"]
class A:
    def list_available_models(cls):
        return [PretrainedModelInfo(pretrained_model_name=5, location=[], description={})]
class B_Weights(WeightsEnum):
    C = Weights(url=5, transforms=[], meta={"dataset": 5, "in_chans": "x", 7: []})
model = dict(type=[], backbone=dict(type="ResNet", depth="x"), neck=5, decode_head=[None, 7])
"""
# A deep expression that is read, and no longer one that Python gives up on.
_DEEP = "x = " + "-" * 900 + "1\nModelMeta(name=" + "(-" * 150 + "1" + ")" * 150 + ")\n"

# Forty lines, each twice as long as the one before: texts, put together in both ways.
_DOUBLED = "a0 = 'xxxxxxxx'\nb0 = 'xxxxxxxx'\n" + "".join(
    f"a{n + 1} = a{n} + a{n}\nb{n + 1} = f'{{b{n}}}{{b{n}}}'\n" for n in range(40)
)

CONTENTS: dict[str, dict[str, bytes]] = {
    "not UTF-8": {"": b"\xff\xfe\x00 Models: \x80\xff"},
    "bombs": {
        "": b"[" * 200_000,
        "yml": _LAUGHS.encode(),
        "py": ("model = " + "[" * 150 + "]" * 150 + "\n" + _DEEP).encode(),
        "csv": b"a,b\n" + b'"' + b"x" * 1_000_000,
        "md": b"| a |\n" * 50_000,
    },
    "merges": {"": b"\x00" * 10_000, "yml": _MERGES.encode(), "py": b"x = " + b"[" * 100_000},
    "wrong types": {
        "": b"5",
        "yml": _WRONG_YAML.encode(),
        "py": _WRONG_PYTHON.encode(),
        "json": b'{"tts_models": {"en": {"a": {"b": 5, "c": {"license": []}}}}, "a": [null]}',
        "csv": b"name,url,params\n5\n,,,,,,\nresnet,\x00,x\n",
        "md": b"| Model | Params |\n|---|\n| [a](b | x |\n",
    },
    "doubled": {"": b"", "py": _DOUBLED.encode()},
    "nothing": {"": b""},
}


def wheel(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mmdet-1.0.dist-info/METADATA", "Name: mmdet\nVersion: 1.0\n")
        for name in READ:
            ending = name.rpartition(".")[2].replace("yaml", "yml")
            archive.writestr(name, content.get(ending, content[""]))
    return path


def checkout(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(wheel(path.with_suffix(".whl"), content)) as archive:
        archive.extractall(path)
    return path


def arguments(name: str, tmp_path: Path, content: dict[str, bytes]) -> dict[str, Path]:
    """What a harvester takes, as the list of sources has it: wheels, checkouts or single files."""
    source = next(source for source in builds.read_sources() if source.harvester == name)
    found = {}
    for file in source.files:
        if file.url.startswith("pypi:"):
            found[file.argument] = wheel(tmp_path / "bad-1.0-py3-none-any.whl", content)
        elif file.patterns:
            found[file.argument] = checkout(tmp_path / file.argument, content)
        else:
            ending = file.url.rpartition(".")[2]
            found[file.argument] = tmp_path / f"{file.argument}.{ending}"
            found[file.argument].write_bytes(content.get(ending, content[""]))
    return found


@pytest.fixture
def bounded() -> Iterator[None]:
    # Of the processor: on a busy machine the import of torch alone takes longer than that.
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - start < 10
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_200_000
    )  # KB; torch alone takes 700,000


@pytest.mark.parametrize("attack", CONTENTS)
@pytest.mark.parametrize("name", sorted(set(HARVESTERS) - ASKED - OWN))
def test_a_hostile_package_is_reported_by_its_harvester(
    name: str,
    attack: str,
    tmp_path: Path,
    bounded: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = []
    read = packages._bytes
    monkeypatch.setattr(
        packages, "_bytes", lambda path, file: seen.append(file) or read(path, file)
    )
    given = arguments(name, tmp_path, CONTENTS[attack])
    try:
        records = list(harvester(name)(**given))
    except TlhubError:
        records = []
    for record in records:  # what was made of it is at least a record
        assert record.uid
    assert len(records) < 50
    whole = any(path.is_dir() for path in given.values()) and name == "onnx_zoo"
    read_one = [file for file in seen if not file.endswith("METADATA")]
    assert read_one or whole, "add what this harvester reads to READ"


@pytest.mark.parametrize("name", sorted(set(HARVESTERS) - ASKED - OWN))
def test_no_harvester_is_stopped_by_a_broken_archive(
    name: str, tmp_path: Path, bounded: None, caplog: pytest.LogCaptureFixture
) -> None:
    for number, broken in enumerate(archives(tmp_path)):
        given = arguments(name, tmp_path, CONTENTS["nothing"])
        for argument, path in given.items():
            if path.suffix == ".whl":
                given[argument] = broken
        if broken not in given.values():
            return  # it reads checkouts, which have no archive
        with pytest.raises((IntegrityError, UnsafeError)):
            list(harvester(name)(**given))
        assert number < 10


def archives(tmp_path: Path) -> Iterator[Path]:
    """Archives that must be refused as a whole."""
    good = wheel(tmp_path / "good.whl", CONTENTS["nothing"]).read_bytes()
    for name, data in {
        "cut.whl": good[: len(good) // 2],
        "empty.whl": b"",
        "text.whl": b"PK\x03\x04 and no more",
    }.items():
        (tmp_path / name).write_bytes(data)
        yield tmp_path / name
    for name in ("../../outside.py", "/etc/passwd", "a/../../b"):
        path = wheel(tmp_path / "leading.whl", CONTENTS["nothing"])
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"x")
        yield path
    yield declared(wheel(tmp_path / "bomb.whl", CONTENTS["nothing"]), 10_000_000_000)


def declared(path: Path, size_bytes: int) -> Path:
    """The archive with a member that says, in the directory, to be this large."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mmdet/.mim/configs/b/metafile.yml", b"x" * 1000)
        archive.infolist()[-1].file_size = size_bytes
    return path


def test_a_member_that_unpacks_to_more_than_it_may_is_read_no_further(
    tmp_path: Path, bounded: None
) -> None:
    path = tmp_path / "bomb.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a-1.dist-info/METADATA", "Name: a\nVersion: 1\n")
        with archive.open("large.yml", "w") as stream:
            for _ in range(80):
                stream.write(b" " * 1_000_000)
    with pytest.raises(UnsafeError, match="larger than"):
        Package.open(path).yaml("large.yml")


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("Version: 1\n", "None"),
        ("Name: a b\nVersion: 1\n", "a b"),
        ("Name: a\nVersion: ../1\n", "1"),
    ],
)
def test_a_wheel_without_a_plain_name_and_version_is_refused(
    metadata: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a-1.dist-info/METADATA", metadata)
    with pytest.raises(IntegrityError, match=said):
        Package.open(path)


def test_a_link_in_a_checkout_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.yml"
    secret.write_text("a: 1")
    folder = tmp_path / "checkout"
    (folder / "a-1.dist-info").mkdir(parents=True)
    (folder / "a-1.dist-info" / "METADATA").write_text("Name: a\nVersion: 1\n")
    (folder / "linked.yml").symlink_to(secret)
    assert "linked.yml" not in Package.open(folder).names


@pytest.mark.parametrize(
    "text",
    ["[" * 300_000, _LAUGHS, _MERGES, "a: " + ":".join(["59"] * 100_000), "&a [*a]", "a: *b"],
    ids=["nested", "laughs", "merges", "base 60", "itself", "nowhere"],
)
def test_yaml_that_stands_for_too_much_is_refused_before_it_is_made(
    text: str, bounded: None
) -> None:
    with pytest.raises(UnsafeError):
        load(text, "x.yml")


@pytest.mark.parametrize(
    "text",
    [
        "a = [0] * 10000\n" + "a = [*a, *a]\n" * 60,
        "a = 'x' * 9999\n" + "a = a + a\n" * 60,
        "a = dict(x=1)\n" + "a = dict(l=a, r=a)\n" * 60 + "b = dict(a=a)\n",
        "a = 10\n" + "a = a * a\n" * 60,
        "_base_ = 'a.py'\nx = 1\n",
        "_base_ = ['../../../../etc/passwd', 5, None]\n",
        "a = [x for x in [1] * 10000]\n" * 60,
    ],
)
def test_a_configuration_that_grows_is_given_up(
    text: str, tmp_path: Path, bounded: None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a-1.dist-info/METADATA", "Name: a\nVersion: 1\n")
        archive.writestr("a.py", text)
        archive.writestr("c.py", "_base_ = 'a.py'\nb = dict(a=dict(l=dict(r=1)))\n")
    configs = Configs(Package.open(path))
    for name in ("a.py", "c.py"):  # what it refers to many times over is never written out
        config = configs.get(name)
        assert params_of({"model": config.get("a", config)}) is None
        assert size_of_config({"model": config, "data": config, "test_pipeline": config}) is None


def test_a_source_that_breaks_its_harvester_is_left_out_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(package: Path) -> Iterator[ModelRecord]:
        yield ModelRecord(uid="broken/half")
        raise RuntimeError("as a bug would")

    def hostile(name: str) -> object:
        return broken if name == "keras" else harvester(name)

    monkeypatch.setattr(builds, "harvester", hostile)
    digests, listed = {}, []
    for number, (name, path) in enumerate(
        [
            ("keras", wheel(tmp_path / "k.whl", CONTENTS["nothing"])),
            *(("mteb", path) for path in archives(tmp_path)),
        ]
    ):
        digest = f"{number:064x}"
        digests[digest] = tmp_path / f"{number}.whl"
        digests[digest].write_bytes(path.read_bytes())
        file = SourceFile(argument="package", url=f"pypi:{name}==1", sha256=digest)
        listed.append(Source(harvester=name, files=(file,)))
    with caplog.at_level(logging.WARNING):
        assert build([*listed, Source(harvester="wheels")], tmp_path / "o.xz", files=digests) == 3
    assert {record.source for record in snapshot.read(tmp_path / "o.xz")} == {"pypi"}
    assert sum("is left out" in record.message for record in caplog.records) == len(listed)


def test_every_harvester_says_where_its_packages_are_given() -> None:
    listed = {source.harvester for source in builds.read_sources()}
    assert listed == set(HARVESTERS)
    for name in set(HARVESTERS) - ASKED - OWN:
        assert inspect.signature(harvester(name)).parameters
