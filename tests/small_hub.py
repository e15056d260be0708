"""A Hugging Face hub on 127.0.0.1 with the repositories it is given, and a tiny timm model."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote


class SmallHub:
    """Repositories by name; `put` makes a commit, `log` is what was asked."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}  # name -> commit or branch -> files
        self.log: list[str] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                hub.answer(self)

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a client was killed

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def put(self, repo: str, files: Mapping[str, bytes]) -> str:
        """The commit that these files are, on `main`."""
        digest = hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False)
        commit = digest.hexdigest()
        versions = self.repos.setdefault(repo, {})
        versions[commit] = versions["main"] = dict(files)
        return commit

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = unquote(request.path.partition("?")[0]).strip("/")
        self.log.append(path)
        parts = path.split("/")
        if parts[:2] == ["api", "models"]:
            repo, revision = "/".join(parts[2:4]), (parts[5:] or ["main"])[0]
            files = self.repos.get(repo, {}).get(revision)
            body = None if files is None else json.dumps(self._listing(repo, files)).encode()
        else:
            repo, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
            body = self.repos.get(repo, {}).get(revision, {}).get(name)
        request.send_response(404 if body is None else 200)
        request.send_header("Content-Length", str(len(body or b"")))
        if body is not None and parts[0] != "api":
            request.send_header("ETag", f'"{_etag(parts[-1], body)}"')
        request.end_headers()
        if body is not None and request.command == "GET":
            request.wfile.write(body)

    def _listing(self, repo: str, files: Mapping[str, bytes]) -> dict[str, object]:
        commit = next(c for c, f in self.repos[repo].items() if f == files and len(c) == 40)
        siblings = []
        for name, body in files.items():
            item: dict[str, object] = {"rfilename": name, "size": len(body)}
            item["blobId"] = _git_sha1(body)
            if name.endswith(".safetensors"):
                item["lfs"] = {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
            siblings.append(item)
        return {"id": repo, "sha": commit, "siblings": siblings, "tags": ["timm"]}


def tiny_model(folder: Path, seed: int = 0) -> dict[str, bytes]:
    """The files of a repository of timm's `test_efficientnet` with random, living weights."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    module = timm.create_model("test_efficientnet", pretrained=False, num_classes=12)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.05)
        module.train()(torch.randn(16, 3, 160, 160))
    save_file(module.eval().state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "test_efficientnet",
        "num_classes": 12,
        "num_features": 256,
        "label_names": [f"class {n}" for n in range(12)],
        "pretrained_cfg": {
            "input_size": [3, 160, 160],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bicubic",
            "crop_pct": 0.95,
            "num_classes": 12,
            "classifier": "classifier",
            "first_conv": "conv_stem",
        },
    }
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": (folder / "model.safetensors").read_bytes(),
        "README.md": b"---\nlicense: apache-2.0\n---\n",
    }


def _etag(name: str, body: bytes) -> str:
    is_lfs = name.endswith(".safetensors")
    return hashlib.sha256(body).hexdigest() if is_lfs else _git_sha1(body)


def _git_sha1(body: bytes) -> str:
    header = b"blob %d\0" % len(body)
    return hashlib.sha1(header + body, usedforsecurity=False).hexdigest()
