from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from catalog import snapshot
from catalog.build import Source, SourceFile, build, read_sources
from catalog.errors import IntegrityError, UsageError
from catalog.record import ModelRecord, decode, encode


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    sources = [Source(harvester="torchvision"), Source(harvester="wheels")]
    first, second = tmp_path / "1.xz", tmp_path / "2.xz"
    assert build(sources, first, files={}) == build(sources, second, files={})
    assert first.read_bytes() == second.read_bytes()
    # The order of the sources decides which home stands, not the order of the lines.
    build(sources[::-1], second, files={})
    assert first.read_bytes() == second.read_bytes()


def test_the_shipped_snapshot_is_sorted_unique_and_valid() -> None:
    records = list(snapshot.read())
    uids = [r.uid for r in records]
    assert uids == sorted(set(uids))
    assert len(records) > 8_000
    assert all(decode(encode(r)) == r for r in records)
    homes = [home for r in records for home in (r.uid, *r.also)]
    assert len(homes) == len(set(homes))
    assert {"keras", "mmdet", "mteb", "openvino", "pypi", "timm", "torchvision"} <= {
        r.source for r in records
    }
    assert snapshot.SHIPPED.stat().st_size < 4_000_000
    assert all(0 < e.value <= 100 for r in records for e in r.evals if e.unit == "%")
    counted = [r for r in records if r.source in {"timm", "torchvision", "pypi"} and r.params]
    assert len(counted) > 1_900


def test_the_shipped_snapshot_holds_what_the_listed_wheels_and_torchvision_say() -> None:
    from catalog.harvesters import torchvision, wheels

    shipped = {r.uid: r for r in snapshot.read()}
    for record in wheels.harvest():
        assert shipped[record.uid] == record
    known = [r for r in torchvision.harvest() if r.uid in shipped]  # a newer one may have more
    assert len(known) >= 160
    for record in known:
        for ours, theirs in zip(shipped[record.uid].artifacts, record.artifacts, strict=False):
            assert (ours.path, ours.format) == (theirs.path, theirs.format)
            assert set(theirs.urls) <= set(ours.urls)  # other homes of the same bytes may be there
    # Tags of one architecture that build it in their own ways are counted each by itself.
    one, other = (shipped[f"timm/qwen3_vit_416m_enc.qwen3_vl_{n}"] for n in ("8b", "32b"))
    assert one.architecture == other.architecture
    assert one.params != other.params
    assert [s.harvester for s in read_sources()][:3] == ["wheels", "torchvision", "timm"]


def test_what_is_not_the_listed_input_is_refused_and_the_old_snapshot_stays(tmp_path: Path) -> None:
    out = tmp_path / "records.xz"
    out.write_bytes(b"old")
    file = SourceFile(
        argument="results", url="https://h.org/r.csv", sha256=hashlib.sha256(b"x").hexdigest()
    )
    listed = [Source(harvester="timm", files=(file,))]
    with pytest.raises(UsageError, match="is needed"):
        build(listed, out, files={})
    with pytest.raises(UsageError, match=r"torchvision 0\.0\.1"):
        build([Source(harvester="torchvision", packages={"torchvision": "0.0.1"})], out, files={})
    assert out.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["records.xz"]


def test_a_source_that_cannot_be_read_is_reported_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "keras-3-py3-none-any.whl"
    broken.write_bytes(b"PK\x03\x04 cut short")
    file = SourceFile(argument="package", url="pypi:keras==3", sha256="0" * 64)
    listed = [Source(harvester="keras", files=(file,)), Source(harvester="wheels")]
    assert build(listed, tmp_path / "out.xz", files={"0" * 64: broken}) == 3
    assert "keras is left out" in caplog.text


def test_a_record_that_does_not_validate_is_refused_naming_the_field() -> None:
    with pytest.raises(UsageError, match=r"\$\.params"):
        snapshot.dump([ModelRecord(uid="a/b", params=0)])
    with pytest.raises(UsageError, match="two records"):
        snapshot.dump([ModelRecord(uid="a/b"), ModelRecord(uid="a/b")])


@pytest.mark.parametrize("data", [snapshot.SHIPPED.read_bytes()[:50_000], b"no xz", b"", None])
def test_a_damaged_snapshot_is_one_clear_error(tmp_path: Path, data: bytes | None) -> None:
    file = tmp_path / "records.xz"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(IntegrityError, match="cannot be read"):
        list(snapshot.read(file))


# A real `tlhub catalog build` of two small sources that stops, as long as it is let, at one moment.
_BUILD = """
import os, pathlib, sys, time
import catalog.build, tlhub.harvest
from catalog.build import Source, SourceFile
moment, name = sys.argv[1], sys.argv[2]
package = SourceFile(argument="package", url="pypi:mmdet==1", sha256=name)
listed = [Source(harvester="wheels"), Source(harvester="openmmlab", files=(package,))]
tlhub.harvest.read_sources = lambda: listed

def stopping(function, when):
    def stop(*arguments, **named):
        if when == moment:
            print("here", flush=True)
            time.sleep(60)
        found = function(*arguments, **named)
        if when + " done" == moment:
            print("here", flush=True)
            time.sleep(60)
        return found
    return stop

catalog.build.merge = stopping(catalog.build.merge, "merge")
os.fsync = stopping(os.fsync, "fsync")
pathlib.Path.replace = stopping(pathlib.Path.replace, "replace")
from tlhub.cli.main import main
sys.argv[1:] = ["catalog", "build", *sys.argv[3:]]
main()
"""


@pytest.mark.parametrize(
    ("moment", "whole"),
    [
        *[("merge", "old"), ("merge done", "old"), ("fsync", "old"), ("replace", "old")],
        ("replace done", "new"),
    ],
)
def test_a_build_that_is_killed_leaves_a_whole_snapshot(
    moment: str, whole: str, tmp_path: Path
) -> None:
    inputs, out = tmp_path / "inputs", tmp_path / "out" / "records.xz"
    inputs.mkdir()
    wheel = inputs / "mmdet.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mmdet-1.dist-info/METADATA", "Name: mmdet\nVersion: 1\n")
    snapshot.write([ModelRecord(uid="old/one")], out)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    command = [sys.executable, "-c", _BUILD, moment, digest, str(out), "--from", str(inputs)]
    home = {**os.environ, "TLHUB_HOME": str(tmp_path / "home"), "TLHUB_CACHE": str(tmp_path / "c")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=home)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "here\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    found = {record.uid for record in snapshot.read(out)}
    assert (found == {"old/one"}) == (whole == "old")
    again = subprocess.run(
        [*command[:3], "never", *command[4:]], capture_output=True, text=True, env=home
    )
    assert again.returncode == 0, again.stderr
    assert {record.source for record in snapshot.read(out)} == {"pypi"}
