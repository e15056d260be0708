"""`tlhub catalog add`, `remove` and what own records are good for, as a user runs it."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import Machine
from small_hub import SmallHub, tiny_model

import tlhub
from catalog import snapshot
from catalog.errors import UnsafeError, UsageError
from catalog.overlay import Overlay
from loopback_hub import Hub, running
from tlhub.settings import Settings
from tlhub.shipped import Shipped

CARD = "---\nlicense: mit\npipeline_tag: image-classification\ntags: [zyxwv]\n---\n\nTells ants.\n"
SHIPPED = "pypi/efficientnet-lite0"
HEADER = b'{"x": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(9)  # safetensors


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A machine of its own, within this process; what ships is not read each time."""
    monkeypatch.setattr(Shipped, "read", classmethod(lambda cls: cls({}, {})))
    return Settings(tmp_path / "home", offline=False)


def own(machine: Machine) -> list[str]:
    return list(Overlay.open(machine.home / "catalog.sqlite").uids())


def folder(at: Path, card: str | bytes = CARD, **files: bytes) -> Path:
    at.mkdir(parents=True)
    (at / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    for name, body in files.items():
        (at / name.replace("_", ".")).write_bytes(body)
    return at


def test_a_folder_with_a_card_is_found_shown_pulled_and_taken_out(machine: Machine) -> None:
    here = folder(machine.cwd / "my ants", model_safetensors=WEIGHTS, config_json=b"{}")
    added = machine.json("catalog", "add", here)
    assert added == {"uids": ["own/my-ants"], "new": 1, "changed": 0, "unchanged": 0}
    assert machine("search", "zyxwv", "-q") == "own/my-ants\n"
    assert machine("catalog", "add", here, "-q") == "own/my-ants\n"
    record = machine.json("show", "own/my-ants")
    assert record["description"] == "Tells ants."
    weights = record["artifacts"][0]
    assert weights["urls"] == [(here / "model.safetensors").as_uri()]
    assert (weights["size_bytes"], len(weights["digest"]["value"])) == (len(WEIGHTS), 64)
    pulled = Path(machine("pull", "own/my-ants", "--format", "original", "-q").strip())
    assert (pulled / "model.safetensors").read_bytes() == WEIGHTS
    (here / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"x")
    machine("compare", "own/my-ants", SHIPPED)
    machine("catalog", "remove", "own/my-ants")
    assert machine("search", "zyxwv", "-q", "--source", "own", code=2)
    assert "ships" in machine("catalog", "remove", SHIPPED, code=3)


def added_tiny(machine: Machine, tmp_path: Path) -> Path:
    """A folder that timm saved, in the catalog as `me/tiny`."""
    here = machine.cwd / "tiny"
    here.mkdir()
    for name, body in tiny_model(tmp_path).items():
        (here / name).write_bytes(body)
    machine("catalog", "add", here, "--uid", "me/tiny")
    return here


def test_what_timm_saved_is_converted(machine: Machine, tmp_path: Path) -> None:
    added_tiny(machine, tmp_path)
    pulled = Path(machine("pull", "me/tiny", "-q").strip())
    assert (pulled / "model.onnx").is_file()
    # And what was pulled is a model to add again.
    machine("catalog", "add", pulled, "--uid", "me/again")
    record = machine.json("show", "me/again")
    assert {a["path"] for a in record["artifacts"]} == {"model.safetensors", "model.onnx"}
    assert (Path(machine("pull", "me/again", "-q").strip()) / "model.onnx").is_file()


def test_what_was_corrected_is_converted_again(machine: Machine, tmp_path: Path) -> None:
    here = added_tiny(machine, tmp_path)
    first = Path(machine("pull", "me/tiny", "-q").strip())
    config = json.loads((here / "config.json").read_bytes())
    config["label_names"] = [f"kind {n}" for n in range(12)]
    config["pretrained_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (here / "config.json").write_text(json.dumps(config))
    machine("catalog", "add", here, "--uid", "me/tiny")
    second = Path(machine("pull", "me/tiny", "-q").strip())
    assert (first / "labels.txt").read_text().startswith("class 0\n")
    assert (second / "labels.txt").read_text().startswith("kind 0\n")
    manifest = json.loads((second / "tlhub.json").read_text())
    assert manifest["record"]["preprocess"]["mean"] == [0.5, 0.5, 0.5]
    assert machine("pull", "me/tiny", "-q").strip() == str(second)


def test_records_are_added_all_or_none(machine: Machine) -> None:
    file = machine.cwd / "records.json"
    many = [{"uid": f"own/m{n}", "task": "fill-mask", "tags": ["zyxwv"]} for n in range(3)]
    for text in (json.dumps(many), "\n".join(map(json.dumps, many)) + "\n\n", json.dumps(many[0])):
        file.write_text(text)
        machine("catalog", "add", file)
        assert own(machine) == [r["uid"] for r in many][: text.count("uid")]
        machine("catalog", "remove", *own(machine))
    file.write_text(json.dumps([*many, {"uid": "own/bad", "params": -5}]))
    said = machine("catalog", "add", file, code=2)
    assert "records.json[3]" in said
    assert "params" in said
    assert own(machine) == []
    file.write_text('{"task": "fill-mask"}')
    assert machine("catalog", "add", file, "--uid", "me/named", "-q") == "me/named\n"
    file.write_text(json.dumps(many))
    machine("catalog", "add", file, "--uid", "me/named", code=2)


def test_what_ships_is_not_hidden_unawares(machine: Machine) -> None:
    record = next(r for r in snapshot.read() if r.uid == SHIPPED)
    file = machine.cwd / "record.json"
    file.write_text(json.dumps({"uid": SHIPPED, "description": "mine"}))
    assert "--force" in machine("catalog", "add", file, code=2)
    machine("catalog", "add", file, "--force")
    assert machine.json("show", SHIPPED) == {**machine.json("show", SHIPPED), "description": "mine"}
    machine("catalog", "remove", SHIPPED)
    assert machine.json("show", SHIPPED).get("description") == record.description


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"uid": "noslash"}, "uid"),
        ({"uid": "own/../x"}, "uid"),
        ({"uid": "hf:a/b"}, "uid"),
        ({"uid": "own/a@b"}, "uid"),
        ({"uid": "own/\u202e"}, "uid"),
        ({"task": "image-clasification"}, "task"),
        ({"modality": "smell"}, "modality"),
        ({"parms": 5}, "parms"),
        ({"params": "5M"}, "params"),
        ({"params": 10**30}, "params"),
        ({"gmacs": 0}, "gmacs"),
        ({"input_size": [3, -1, 5]}, "input_size"),
        ({"input_size": [2**40]}, "input_size"),
        ({"description": "\x1b[2J"}, "description"),
        ({"description": "x" * 20_000}, "description"),
        ({"artifacts": [{"path": "../../x", "format": "onnx", "urls": []}]}, "artifacts[0].path"),
        ({"artifacts": [{"path": "x", "format": "onnx", "urls": ["x"]}]}, "artifacts[0].urls[0]"),
        ({"artifacts": [{"format": "onnx", "urls": []}]}, "path"),
        (
            {"artifacts": [{"path": "x", "format": "onnx", "urls": [],
                            "digest": {"algorithm": "sha256", "value": "abc"}}]},
            "digest.value",
        ),
        ({"license": {"scope": "mine"}}, "license.scope"),
        ({"evals": [{"task_type": "t", "dataset": "d", "metric_type": "m", "value": "x"}]},
         "value"),
    ],
)  # fmt: skip
def test_the_field_that_does_not_validate_is_named(
    settings: Settings, tmp_path: Path, said: dict[str, object], field: str
) -> None:
    file = tmp_path / "record.json"
    file.write_text(json.dumps({"uid": "own/x", **said}))
    with pytest.raises(UsageError, match=re.escape(field)):
        tlhub.add(file, settings=settings)
    assert not settings.own_catalog.exists()


def test_a_card_that_does_not_validate_names_the_field(machine: Machine) -> None:
    here = folder(machine.cwd / "ants", CARD.replace("image-classification", "image"))
    assert "pipeline_tag" in machine("catalog", "add", here, code=2)
    (here / "README.md").write_text("# nothing\n")
    assert "metadata" in machine("catalog", "add", here / "README.md", code=2)
    (here / "README.md").unlink()
    assert "tlhub.json" in machine("catalog", "add", here, code=3)
    machine("catalog", "add", here / "none.json", code=3)


BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe\x00",
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"uid": "own/x", "tags": ' + b"[" * 100_000 + b"}",
        b'{"uid": "own/x", "params": ' + b"9" * 100_000 + b"}",
        b'{"uid": "own/x", "params": ' + b"9" * 400 + b"}",
        b'{"uid": "own/x", "gmacs": NaN}',
        b'{"uid": "own/x", "description": "\\ud800"}',
        b'{"uid": "own/\xff"}',
        f"---\n{BOMB}\n---\n".encode(),
        b"---\na: !!python/object/apply:os.system [true]\n---\n",
        b"---\na: b\n\0\n---\n",
        None,
    ],
)
def test_hostile_files_are_refused(settings: Settings, tmp_path: Path, body: bytes | None) -> None:
    file = tmp_path / "hostile.json"
    os.mkfifo(file) if body is None else file.write_bytes(body)
    began = time.monotonic()
    with pytest.raises((UsageError, UnsafeError)):
        tlhub.add(file, settings=settings)
    assert time.monotonic() - began < 10
    assert not settings.own_catalog.exists()


def test_links_do_not_lead_out_of_a_folder(machine: Machine) -> None:
    secret = machine.folder / "secret.safetensors"
    secret.write_bytes(WEIGHTS)
    here = folder(machine.cwd / "ants")
    (here / "model.safetensors").symlink_to(secret)
    assert "leads out" in machine("catalog", "add", here, code=6)
    (here / "model.safetensors").unlink()
    (here / "again").symlink_to(here)
    (here / "gone.safetensors").symlink_to(here / "nothing")
    machine("catalog", "add", here)
    # As the Hugging Face cache keeps a repository.
    cache = machine.cwd / "models--acme--ants"
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs" / "abc").write_bytes(WEIGHTS)
    snapshot_ = folder(cache / "snapshots" / "123")
    (snapshot_ / "model.safetensors").symlink_to("../../blobs/abc")
    machine("catalog", "add", snapshot_, "--uid", "me/cached")


def test_a_manifest_cannot_name_files_elsewhere(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    here = machine.cwd / "model"
    here.mkdir()
    manifest = {
        "schema_version": 1, "kind": "model", "uid": "own/x", "created": "now",
        "record": {"uid": "own/x"},
        "files": {os.path.relpath(tmp_path / "secret", here): {"sha256": "0" * 64,
                                                               "size_bytes": 6}},
    }  # fmt: skip
    (here / "tlhub.json").write_text(json.dumps(manifest))
    assert "outside" in machine("catalog", "add", here, code=6)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A web server's folder, and its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "site").mkdir()
    handler: Callable[..., Any] = functools.partial(Handler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield tmp_path / "site", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_url_is_read_as_a_file_is(machine: Machine, site: tuple[Path, str]) -> None:
    root, url = site
    (root / "README.md").write_text(CARD)
    (root / "records.json").write_text('[{"uid": "own/a"}, {"uid": "own/b"}]')
    (root / "evil.json").write_text(
        '{"uid": "own/evil", "artifacts": [{"path": "x.bin", "format": "pytorch", '
        '"urls": ["file:///dev/zero"]}]}'
    )
    (root / "page.html").write_text("<html>")
    assert "--uid" in machine("catalog", "add", f"{url}/README.md", code=2)
    machine("catalog", "add", f"{url}/README.md", "--uid", "me/web")
    machine("catalog", "add", f"{url}/records.json")
    machine("catalog", "add", f"{url}/evil.json", code=6)
    machine("catalog", "add", f"{url}/page.html", "--uid", "me/page", code=2)
    machine("catalog", "add", f"{url}/none.json", code=3)
    machine("catalog", "add", f"{url}/records.json", "--offline", code=5)
    machine("catalog", "add", "pypi:x==1", code=2)
    assert own(machine) == ["me/web", "own/a", "own/b"]


@pytest.fixture
def hub() -> Iterator[Hub]:
    yield from running()


def test_a_repository_is_added_with_its_hub(
    machine: Machine, small_hub: SmallHub, tmp_path: Path, hub: Hub
) -> None:
    machine("catalog", "add", "hf:acme/tiny")
    record = machine.json("show", "hf/acme/tiny")
    assert record["artifacts"][0]["urls"][0].startswith(f"hub+{small_hub.url}/acme/tiny@")
    assert record["origin_url"] == f"{small_hub.url}/acme/tiny"
    assert (Path(machine("pull", "hf/acme/tiny", "-q").strip()) / "model.onnx").is_file()
    hub.put("acme/other", tiny_model(tmp_path))
    machine("catalog", "add", f"hub+{hub.url}/acme/other")
    uid = f"{hub.url.removeprefix('http://').replace(':', '-')}/acme/other"
    assert own(machine) == sorted([uid, "hf/acme/tiny"])
    assert (Path(machine("pull", uid, "-q").strip()) / "model.onnx").is_file()
    shipped = next(r for r in snapshot.read() if r.hf_hub_id and r.source == "timm")
    hub.put(str(shipped.hf_hub_id), {"model.safetensors": WEIGHTS})
    machine.env["HF_ENDPOINT"] = hub.url
    assert shipped.uid in machine("catalog", "add", f"hf:{shipped.hf_hub_id}", code=2)
    machine("catalog", "add", f"hf:{shipped.hf_hub_id}", "--uid", "me/mine")
