from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_hub import tiny_model

import tlhub
from catalog import snapshot
from catalog.overlay import Overlay
from loopback_hub import Hub, running
from terminal import TLHUB, Run
from tlhub.settings import Settings

Command = Callable[..., str]


@pytest.fixture
def hub() -> Iterator[Hub]:
    for hub in running():
        hub.models += [entry(number) for number in range(25)]
        hub.page_size = 10
        yield hub


@pytest.fixture
def env(hub: Hub, tmp_path: Path) -> dict[str, str]:
    return {
        "TLHUB_HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_secret",
    }


@pytest.fixture
def run(tlhub: Run, env: dict[str, str]) -> Command:
    def command(*arguments: object, code: int = 0, **more: str) -> str:
        done = tlhub(*map(str, arguments), env={**env, **more})
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    return command


@pytest.fixture
def sync(run: Command) -> Callable[..., dict[str, object]]:
    return lambda *options, **more: json.loads(
        run("catalog", "sync", "--from", "hf", "--json", *options, **more)
    )


NAN = (
    b'{"id":"acme/nan","model-index":[{"results":[{"task":{"type":"t"},"dataset":{"name":"d"},'
    b'"metrics":[{"type":"acc","value":NaN},{"type":"f1","value":1e999}]}]}]}'
)


def entry(number: int, **said: object) -> dict[str, object]:
    """A model of the hub; the greater its number, the later it changed."""
    return {
        "id": f"acme/model-{number}",
        "sha": f"{number:040x}",
        "lastModified": f"2025-01-{1 + number // 24:02}T{number % 24:02}:00:00.000Z",
        "pipeline_tag": ["text-classification", "image-classification"][number % 2],
        "tags": ["zyxwv"],
        "siblings": [{"rfilename": "model.safetensors"}],
        **said,
    }


def pages(hub: Hub) -> list[str]:
    return hub.asked("/api/models?")


def own(env: dict[str, str]) -> Overlay:
    return Overlay.open(Path(env["TLHUB_HOME"]) / "catalog.sqlite")


def test_a_hub_is_synced_searched_and_then_asked_for_little(
    hub: Hub, run: Command, sync: Callable[..., dict[str, object]]
) -> None:
    first = sync()
    assert (first["new"], first["read"], first["pages"]) == (25, 25, 3)
    assert run("search", "zyxwv", "--limit", "100", "-q").count("hf/acme/model-") == 25
    assert json.loads(run("show", "hf/acme/model-7", "--json"))["origin_url"].startswith(hub.url)
    run("similar", "hf/acme/model-7", "-q")
    run("compare", "hf/acme/model-7", "hf/acme/model-8")
    hub.models[3] = entry(30, id="acme/model-3", pipeline_tag="fill-mask")
    hub.log.clear()
    second = sync()
    assert (second["new"], second["changed"], second["pages"]) == (0, 1, 1)
    assert len(pages(hub)) == 1
    assert run("search", "zyxwv task:fill-mask", "-q") == "hf/acme/model-3\n"
    run("catalog", "remove", "hf/acme/model-3")
    assert "hf/acme/model-3" in run("catalog", "remove", "hf/acme/model-3", code=3)


def test_a_synced_model_is_pulled_from_the_hub_it_came_from(
    hub: Hub, run: Command, env: dict[str, str], tmp_path: Path
) -> None:
    hub.put("acme/tiny", tiny_model(tmp_path), pipeline_tag="image-classification", tags=["timm"])
    hub.models.append(hub.entry("acme/tiny") | {"lastModified": "2025-06-01T00:00:00.000Z"})
    run("catalog", "sync", "--from", "hf")
    folder = Path(run("pull", "hf/acme/tiny", "-q", HF_ENDPOINT="http://127.0.0.1:9").strip())
    assert (folder / "model.onnx").is_file()
    # Beside them those of another hub, which is not told the token.
    hub.log.clear()
    run("catalog", "sync", "--from", hub.url, HF_ENDPOINT="http://127.0.0.1:9")
    assert not [h for _, _, h in hub.log if "authorization" in h]
    uid = f"{hub.url.removeprefix('http://').replace(':', '-')}/acme/tiny"
    record = json.loads(run("show", uid, "--json"))
    assert "hf_hub_id" not in {k for k, v in record.items() if v}
    assert record["artifacts"][0]["urls"][0].startswith(f"hub+{hub.url}/acme/tiny@")
    folder = Path(run("pull", uid, "-q", HF_ENDPOINT="http://127.0.0.1:9").strip())
    assert (folder / "model.onnx").is_file()


def test_the_models_of_two_hubs_are_not_mixed_up(
    run: Command, sync: Callable[..., dict[str, object]]
) -> None:
    sync()
    for other in running():
        other.models.append(entry(40, id="acme/model-4"))
        said = run("catalog", "sync", "--from", "hf", code=2, HF_ENDPOINT=other.url)
        assert f"--from {other.url}" in said
        run("catalog", "sync", "--from", f"hub+{other.url}", HF_ENDPOINT="http://127.0.0.1:9")
        both = run("search", "zyxwv model 4", "-q").split()
        assert len([uid for uid in both if uid.endswith("/acme/model-4")]) == 2


def test_a_mirror_is_the_hub_that_it_mirrors(
    run: Command, sync: Callable[..., dict[str, object]]
) -> None:
    sync("--mirror")
    record = json.loads(run("show", "hf/acme/model-1", "--json"))
    assert record["origin_url"] == "https://huggingface.co/acme/model-1"
    assert record["artifacts"][0]["urls"][0].startswith("hf:acme/model-1@")


def test_what_ships_is_not_there_twice(
    hub: Hub, run: Command, sync: Callable[..., dict[str, object]], env: dict[str, str]
) -> None:
    shipped = next(r for r in snapshot.read() if r.hf_hub_id and r.source == "timm")
    hub.models += [
        entry(30, id=str(shipped.hf_hub_id).upper()),
        entry(31, id="acme/tuned", cardData={"base_model": shipped.hf_hub_id}),
    ]
    assert sync()["known"] == 1
    assert [u for u in own(env).uids() if "acme" not in u] == []
    found = json.loads(run("show", "hf/acme/tuned", "--json"))
    assert found["base_model"] == shipped.uid


def test_conditions_are_the_hubs_and_each_selection_has_its_own_place(
    hub: Hub, sync: Callable[..., dict[str, object]]
) -> None:
    hub.models.append(entry(30, id="other/model"))
    assert sync("--task", "image-classification")["new"] == 12
    assert sync("--author", "other")["new"] == 1
    assert (found := sync("--limit", "12"))["read"] == 12
    assert found["pages"] == 2
    assert sync("--limit", "12")["pages"] == 1
    assert sync()["new"] == 25 + 1 - 12 - 1 - (12 - 6)


@pytest.mark.parametrize("trouble", [300, (404, {}), (401, {}), (500, {})])
def test_a_sync_that_failed_goes_on_where_it_stopped(
    hub: Hub,
    env: dict[str, str],
    trouble: int | tuple[int, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hub_client.patience import Patience
    from hub_client.sources import hf_models

    monkeypatch.setattr(hf_models.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(hf_models, "Patience", lambda: Patience(tries=2, first_wait_s=0.01))
    settings = Settings(Path(env["TLHUB_HOME"]), offline=False)

    hub.troubles = [None, *[trouble] * 9]
    with pytest.raises(tlhub.TlhubError):
        tlhub.sync(settings=settings)
    assert len(list(own(env).uids())) == 10
    hub.troubles.clear()
    hub.models.append(entry(30, id="acme/meanwhile"))
    hub.log.clear()
    done = tlhub.sync(settings=settings)
    assert "cursor=" in pages(hub)[0]
    assert done.new == 16
    assert len(list(own(env).uids())) == 26


def test_a_page_that_the_hub_forgot_is_no_end(
    hub: Hub, env: dict[str, str], sync: Callable[..., dict[str, object]]
) -> None:
    place = '{"newest":"2025-01-01T00:00:00.000","next":"sort=lastModified&cursor=gone"}'
    own(env).put([], "hf", cursors={"sync hf task= author= limit=": place})
    hub.troubles = [(410, {})]
    assert sync()["new"] == 25


def test_a_busy_hub_is_waited_for(
    hub: Hub, sync: Callable[..., dict[str, object]], run: Command
) -> None:
    hub.troubles = [(429, {"Retry-After": "1"}), 300, (503, {"Retry-After": "0"})]
    began = time.monotonic()
    assert sync()["new"] == 25
    assert time.monotonic() - began > 1
    hub.troubles = [(429, {"RateLimit": '"api";r=0;t=2000'})]
    assert "asks to wait 2000 s" in run("catalog", "sync", "--from", "hf", code=5)


def test_a_bad_entry_is_left_out_and_the_rest_is_there(
    hub: Hub, run: Command, env: dict[str, str]
) -> None:
    deep: bytes = b'{"id":"acme/deep","cardData":' + b"[" * 5000 + b"]" * 5000 + b"}"
    hub.models += [
        *("text", None, [], {}, 5, deep, b'{"id":"acme/\xff"}'),
        *({"id": name} for name in ("../../x", "a/..", "a/b/c", 7, "", "a b/c", "x" * 500, "a/\n")),
        entry(1, id="acme/huge", safetensors={"parameters": {"F32": 10**300}}),
        b'{"id":"acme/digits","sha":"%s","safetensors":{"parameters":{"F32":%s}}}'
        % (b"0" * 40, b"9" * 9000),
        NAN,
        entry(2, id="acme/types", tags={"a": 1}, siblings="x", cardData=[], config=7, sha=3.5),
        entry(3, id="acme/out", siblings=[{"rfilename": "../../x.bin"}, {"rfilename": "/x.bin"}]),
        entry(4, id="acme/card", cardData={"license": "x" * 10**6, "tags": ["t"] * 10**5}),
        entry(5, id="acme/off", disabled=True),
        entry(6, id="acme/never", lastModified="9999-12-31T00:00:00.000Z"),
        entry(7, id="acme/when", lastModified=7),
    ]
    hub.page_size = 1000
    said = run("catalog", "sync", "--from", "hf")
    assert said.startswith("33 new")
    names = [uid.rpartition("/")[2] for uid in own(env).uids() if "model-" not in uid]
    assert names == ["card", "digits", "huge", "nan", "never", "out", "types", "when"]
    assert "artifacts" not in json.loads(run("show", "hf/acme/out", "--json"))
    assert len(run("search", "--source", "hf", "--limit", "100", "-q").split()) == 25 + len(names)
    # A date in the far future does not keep us from what comes later.
    hub.models.append(entry(100, id="acme/later"))
    run("catalog", "sync", "--from", "hf")
    assert "hf/acme/later" in set(own(env).uids())


def test_a_hub_that_leads_in_a_circle_or_is_none_is_left(hub: Hub, run: Command) -> None:
    there = [{"Link": f'<{hub.url}/api/models?cursor={at}>; rel="next"'} for at in "abab"]
    hub.troubles = [(200, {**link, "Content-Length": "2"}, b"[]") for link in there]
    assert "in a circle" in run("catalog", "sync", "--from", "hf", code=5)
    hub.refused = (404, {})
    assert "HF_ENDPOINT" in run("catalog", "sync", "--from", "hf", code=3)


def test_offline_and_nonsense_end_at_once(run: Command, hub: Hub) -> None:
    assert "--offline" in run("catalog", "sync", "--from", "hf", "--offline", code=5)
    assert "text-classification" in run(
        "catalog", "sync", "--from", "hf", "--task", "text-clasification", code=2
    )
    assert "author" in run("catalog", "sync", "--from", "hf", "--author", "a/b", code=2)
    assert "https://hub" in run("catalog", "sync", "--from", "nowhere", code=2)
    assert "--mirror" in run("catalog", "sync", "--from", "hf", code=2, HF_ENDPOINT=f"{hub.url}/x")
    run("catalog", "sync", "--from", "hf", "--limit", "0", code=2)
    assert not hub.log


def test_a_killed_sync_loses_nothing_and_goes_on(hub: Hub, env: dict[str, str]) -> None:
    hub.models[:] = [entry(n) for n in range(600)]
    hub.page_size = 20
    environ = {**os.environ, **env}
    command = [TLHUB, "catalog", "sync", "--from", "hf", "--json"]
    had = 0
    for signal_ in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
        asked = len(pages(hub))
        while len(pages(hub)) < asked + 8 and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal_)
        process.wait()
        assert process.returncode in {-signal.SIGKILL, 130}
        now = len(list(own(env).uids()))
        assert had < now < 600
        had = now
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert len(list(own(env).uids())) == 600
    assert json.loads(done.stdout)["read"] <= 600 - had + 2 * 20


def test_two_syncs_at_once_come_to_the_same(hub: Hub, env: dict[str, str]) -> None:
    hub.models[:] = [entry(n) for n in range(300)]
    command = [TLHUB, "catalog", "sync", "--from", "hf", "--json"]
    both = [
        subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(item["new"] for item in found) == 300
    assert len(list(own(env).uids())) == 300


def test_a_catalog_that_cannot_be_written_or_is_damaged_is_said(
    hub: Hub, run: Command, env: dict[str, str], sync: Callable[..., dict[str, object]]
) -> None:
    sync()
    file = own(env).path
    whole = file.read_bytes()
    file.write_bytes(b"SQLite format 3\0" + os.urandom(9000))
    assert "damaged" in run("search", "zyxwv", code=6)
    assert "damaged" in run("catalog", "sync", "--from", "hf", code=6)
    file.write_bytes(whole)
    hub.models.append(entry(100, tags=["x" * 150] * 5000))
    assert run("catalog", "sync", "--from", "hf").startswith("1 new")
    assert run("search", "zyxwv", "--limit", "100", "-q").count("\n") == 25


def test_a_full_disk_is_said_and_nothing_is_lost(
    hub: Hub, env: dict[str, str], sync: Callable[..., dict[str, object]]
) -> None:
    sync()
    hub.models += [entry(n, tags=[f"{n}-{k}" for k in range(100)]) for n in range(30, 130)]
    hub.page_size = 500
    limit = own(env).path.stat().st_size + 20_000
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "sys.argv = ['tlhub', 'catalog', 'sync', '--from', 'hf']; import tlhub.cli.main as m;"
        "m.main()"
    )
    python = str(Path(TLHUB).with_name("python"))
    done = subprocess.run(
        [python, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "cannot be used" in done.stderr
    assert len(list(own(env).uids())) == 25
    assert sync()["new"] == 100
