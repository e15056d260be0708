"""Opening a graph in ONNX Runtime: which device, how many threads, and nothing from outside."""

from __future__ import annotations

import ctypes
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from catalog.errors import IntegrityError, TlhubError, UsageError
from converters.graphs import check_external_data
from converters.interface import CLASS_MAP, INPUT_IDS, MAX_INLINE_BYTES, PIXEL_VALUES

if TYPE_CHECKING:
    import onnx
    import onnxruntime

_log = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_ERRORS_ONLY = 3  # ONNX Runtime's severity


def open_sessions(
    file: Path, device: Device, threads: int | None, layers: Sequence[str] = ()
) -> tuple[list[onnxruntime.InferenceSession], Device]:
    """The sessions that run ``file`` one after the other, and the device of the last.

    On the CPU it is one, and on a GPU for a text model. Of an image model there are two then:
    CUDA's antialiased cubic ``Resize`` is wrong (onnxruntime#25264), so that what comes before
    ``pixel_values`` runs on the CPU. Without a tensor of that name it is for the CPU only.
    ``layers`` are tensors of the graph that the last gives too.

    Raises:
        IntegrityError: the file is not a graph that ONNX Runtime can load.
        UnsafeError: it reads weights from outside its folder.
        UsageError: ``device`` is unknown or not there, ``threads`` is below 1, or there is no such
            layer.
    """
    is_for_cpu = _is_for_cpu(device)
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}, must be at least 1")
    check_external_data(file)
    whole = _with_layers(file, layers) if layers else file
    if is_for_cpu:
        return [_open(file, whole, _CPU, threads)], "cpu"
    if not cuda_driver():
        raise UsageError("there is no CUDA device on this machine", hint=_CUDA_HINT)
    try:
        if takes_tokens(_parsed(file, weights=False)):
            sessions = [_open(file, whole, _CUDA, threads)]
        else:
            sessions = [
                _open_part(file, part, provider, threads)
                for part, provider in zip(split(file, layers), (_CPU, _CUDA), strict=True)
            ]
    except (UsageError, IntegrityError) as error:
        if device == "cuda":
            raise
        _log.info("on the CPU, since on the GPU: %s", error)
        return [_open(file, whole, _CPU, threads)], "cpu"
    # ONNX Runtime opens it on the CPU without an error: what it says it uses is the truth.
    if _CUDA in sessions[-1].get_providers():
        return sessions, "cuda"
    if device == "cuda":
        raise UsageError("ONNX Runtime cannot use the CUDA device of this machine", hint=_CUDA_HINT)
    return [_open(file, whole, _CPU, threads)], "cpu"


def usable(file: Path, device: Device) -> Device:
    """The device that ``file`` runs on; tried out where it may be a GPU.

    Raises:
        UsageError: there is no such device.
        IntegrityError, UnsafeError: where it may be a GPU, as `open_sessions`.
    """
    return "cpu" if _is_for_cpu(device) else open_sessions(file, device, None)[1]


def _is_for_cpu(device: Device) -> bool:
    if device not in {"auto", "cpu", "cuda"}:
        raise UsageError(f"there is no device {device!r}", hint="auto, cpu or cuda")
    return device == "cpu" or (device == "auto" and not cuda_driver())


_CUDA_HINT = (
    "a GPU needs NVIDIA's driver, and `pip install 'onnxruntime-gpu[cuda,cudnn]'` without a plain "
    "`onnxruntime` beside it; or use --device cpu"
)


def cuda_driver() -> bool:
    """Is there a CUDA driver with a device? Asked of the driver itself, which prints nothing."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return (
        driver.cuInit(0) == 0
        and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        and count.value > 0
    )


def takes_tokens(model: onnx.ModelProto) -> bool:
    """Whether it is a model of texts."""
    return any(item.name == INPUT_IDS for item in model.graph.input)


def _with_layers(file: Path, layers: Sequence[str]) -> bytes:
    """The graph with these layers as outputs too.

    Raises:
        UsageError: it has no such layer, or is over 2 GB.
    """
    if sum(part.stat().st_size for part in (file, *file.parent.glob(f"{file.name}.data"))) > (
        MAX_INLINE_BYTES
    ):
        raise UsageError(
            f"{file} is over 2 GB, to which layers cannot be added as it is opened",
            hint="make it with the layers: tlhub convert --layer",
        )
    from converters.graph import with_outputs

    data: bytes = with_outputs(_parsed(file, weights=True), layers).SerializeToString()
    return data


def split(file: Path, layers: Sequence[str] = ()) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The graph in two at ``pixel_values``: the preprocessing, and the network with all outputs.

    Raises:
        UsageError: it has no tensor of that name.
        IntegrityError: it cannot be parsed.
    """
    from converters.graph import part_of, with_outputs

    model = _parsed(file, weights=True)
    if layers:
        model = with_outputs(model, layers)
    if any(item.name == CLASS_MAP for item in model.graph.output):
        raise UsageError(
            f"{file} asks for the photo's size again, behind its network: it is for one device",
            hint="use --device cpu",
        )
    if not any(PIXEL_VALUES in node.output for node in model.graph.node):
        raise UsageError(
            f"{file} has no tensor `{PIXEL_VALUES}`: where the preprocessing ends is unknown",
            hint="use --device cpu",
        )
    front = part_of(model, [item.name for item in model.graph.input], [PIXEL_VALUES])
    back = part_of(model, [PIXEL_VALUES], [item.name for item in model.graph.output])
    return front, back


def _parsed(file: Path, *, weights: bool) -> onnx.ModelProto:
    """The graph, with the weights that are kept outside the file or without."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(str(file), load_external_data=weights)
    except DecodeError as error:
        raise IntegrityError(f"{file} is not an ONNX graph: {error}", hint=_AGAIN) from error


_AGAIN = "pull or fine-tune it again"


def _open_part(
    file: Path, part: onnx.ModelProto, provider: str, threads: int | None
) -> onnxruntime.InferenceSession:
    """A session of a part of ``file``, which is read from a file where it is over 2 GB."""
    from converters import onnx_file

    if onnx_file.size(part) < MAX_INLINE_BYTES:
        return _open(file, part.SerializeToString(), provider, threads)
    import onnx

    with tempfile.TemporaryDirectory(prefix="tlhub-") as folder:
        place = Path(folder, "part.onnx")
        onnx.save_model(part, str(place), save_as_external_data=True, location="part.data")
        return _open(file, place, provider, threads)


def _open(
    file: Path, model: Path | bytes, provider: str, threads: int | None
) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    providers: list[str | tuple[str, dict[str, str]]] = [_CPU]
    if provider == _CUDA:
        providers.insert(0, (_CUDA, {"use_tf32": "0"}))  # TF32 has 10 bits of fp32's 23
    try:
        with redirect_stdout(sys.stderr):  # ONNX Runtime prints what fails
            if provider == _CUDA:
                onnxruntime.preload_dlls()
            session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=providers
            )
    except _failures() as error:
        lines = str(error).strip().splitlines()
        raise IntegrityError(
            f"{file} cannot be loaded by ONNX Runtime: {lines[0]}", hint=_AGAIN
        ) from error
    session.disable_fallback()  # a run that fails on the GPU is no silent run on the CPU
    return session


def run(
    session: onnxruntime.InferenceSession,
    outputs: Sequence[str] | None,
    given: Mapping[str, NDArray[Any]],
) -> list[NDArray[Any]]:
    """Outputs (by default all) of a session, of what its inputs are given by name.

    Raises:
        TlhubError: ONNX Runtime fails, for want of memory for example.
    """
    try:
        results: list[NDArray[Any]] = session.run(outputs and list(outputs), dict(given))
    except _failures() as error:
        device = session.get_providers()[0].removesuffix("ExecutionProvider")
        lines = str(error).strip().splitlines()
        values = next(iter(given.values()))
        raise TlhubError(
            f"ONNX Runtime fails on the {device}, given {values.dtype} {values.shape}: {lines[0]}",
            hint="fewer or smaller inputs, or another --device",
        ) from error
    return results


def _failures() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a graph that it cannot load or run."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.EPFail,
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
        state.RuntimeException,
    )
