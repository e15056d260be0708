"""A graph answers in a browser, by ONNX Runtime's wasm build, as it does on the CPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from catalog.record import ModelRecord
from converters.convert import convert
from converters.evidence import sample_photos
from converters.export import save
from converters.folder import ModelFolder
from converters.graph import with_outputs
from converters.image_front import views_of
from converters.interface import IMAGE, PIXEL_VALUES

pytestmark = pytest.mark.slow

RUNTIME = "onnxruntime-web@1.30.0"
PAGE = Path(__file__).with_name("wasm.html")
WAIT_S = 180


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runtime that a page loads."""
    for tool in ("npm", "chromium"):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is not installed: apt-get install {tool}")
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", RUNTIME]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder / "node_modules" / "onnxruntime-web" / "dist"


def _in_browser(
    model: Path, photos: Sequence[NDArray[np.uint8]], runtime: Path, site: Path
) -> list[dict[str, list[float]]]:
    """What a graph answers to photos in a page of Chromium."""
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        shutil.copy(runtime / name, site)
    shutil.copy(PAGE, site)
    shutil.copy(model, site / "model.onnx")
    inputs = []
    for number, photo in enumerate(photos):
        (site / f"{number}.bin").write_bytes(photo.tobytes())
        inputs.append({"name": IMAGE, "file": f"{number}.bin", "shape": [1, *photo.shape]})
    (site / "inputs.json").write_text(json.dumps({"inputs": inputs}), encoding="utf-8")
    said: Queue[Mapping[str, Any]] = Queue()

    class Handler(SimpleHTTPRequestHandler):
        extensions_map = {  # noqa: RUF012  # as the class has it
            **SimpleHTTPRequestHandler.extensions_map,
            ".mjs": "text/javascript",
            ".wasm": "application/wasm",
        }

        def do_POST(self) -> None:
            said.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    def handler(*arguments: Any) -> Handler:
        return Handler(*arguments, directory=str(site))

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{PAGE.name}"
        profile = site / "profile"
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        browser = subprocess.Popen(
            ["chromium", *options, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            answer = said.get(timeout=WAIT_S)
        finally:
            browser.terminate()
            browser.wait(timeout=30)
            server.shutdown()
    assert "error" not in answer, answer["error"]
    answers: list[dict[str, list[float]]] = answer["answers"]
    return answers


def _with_pixels(folder: ModelFolder, to: Path) -> Path:
    """The graph with what becomes of the photo as a further output."""
    file = to / "pixels.onnx"
    save(with_outputs(onnx.load(str(folder.onnx)), [PIXEL_VALUES]), file)
    return file


@pytest.mark.parametrize(
    "how",
    [
        {"interpolation": "bicubic"},
        {"interpolation": "bilinear", "crop_pct": 1.0},
        {"interpolation": "bicubic", "resize_mode": "squash"},
    ],
    ids=str,
)
def test_photos_of_any_size_are_prepared_and_classified_alike(
    how: dict[str, object],
    record_of: Callable[..., ModelRecord],
    weights_of: Callable[[ModelRecord], dict[str, Path]],
    runtime: Path,
    tmp_path: Path,
) -> None:
    record = record_of("test_byobnet", **how)
    folder = convert(record, weights_of(record), tmp_path / "model")
    model = _with_pixels(folder, tmp_path)
    photos = views_of(sample_photos().values())
    site = tmp_path / "site"
    site.mkdir()
    answers = _in_browser(model, photos, runtime, site)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert {PIXEL_VALUES, "logits", "embedding"} <= set(names)
    for photo, answer in zip(photos, answers, strict=True):
        expected = session.run(names, {IMAGE: photo[None]})
        for name, array in zip(names, expected, strict=True):
            seen = np.reshape(np.array(answer[name], np.float32), array.shape)
            assert np.abs(seen - array).max() <= 1e-5 * np.abs(array).max(), name
