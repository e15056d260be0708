"""Features of a folder of images, or of a list of images or texts, as one table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import DataError, NotFoundError, UsageError
from converters.images import SUFFIXES, read_image
from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings

if TYPE_CHECKING:
    from converters.extraction import Extraction
    from converters.session import Device


def features(
    model: str | Path,
    data: str | Path | Sequence[str],
    out: str | Path,
    *,
    layer: str | None = None,
    pool: bool = True,
    device: Device = "auto",
    threads: int | None = None,
    force: bool = False,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Extraction:
    """Write what ``model`` gives for each input of ``data`` to ``out``: `.npy`, `.csv`, `.parquet`.

    ``data`` is a folder of images, a text file with one input a line (paths of images, from its
    own folder on; or texts), or a sequence of inputs. ``layer`` is a name of `tlhub.layers`, by
    default the embedding is taken; with ``pool`` maps and tokens become their mean. A run that was
    stopped is taken up by the same call.

    Raises:
        UsageError: ``out`` exists and ``force`` was not asked for, it ends in no known way, or the
            model has no such layer.
        NotFoundError: there is no such data.
        DataError: most of it cannot be read.
    """
    from converters.extraction import extract
    from converters.folder import sha256_of
    from converters.tables import check_format
    from converters.text_model import TextModel
    from tlhub.api import load

    settings, out = settings or Settings.load(), Path(out).expanduser()
    check_format(out)
    if os.path.lexists(out) and not force:
        raise UsageError(f"{out} exists already", hint="choose another place, or --force")
    folder = Path(data).expanduser() if isinstance(data, str | Path) else None
    if folder is not None and not folder.exists():
        raise NotFoundError(f"there is nothing at {folder}", hint="name a folder, or a text file")
    runner = load(
        model,
        device=device,
        threads=threads,
        layers=[layer] if layer else (),
        settings=settings,
        progress=progress,
    )
    names, base = _inputs(data, folder, is_text=isinstance(runner, TextModel))
    import onnxruntime

    progress(Event(f"{len(names):,} inputs"))
    return extract(
        runner,
        names,
        lambda name: name if base is None else read_image(base / name),
        out,
        key="\0".join(
            [
                f"{sha256_of(runner.file)} {onnxruntime.__version__} {runner.device}",
                *([] if base is None else _states(base, names)),
            ]
        ),
        layer=layer,
        pool=pool,
        progress=lambda step: progress(Event(step)),
    )


def _inputs(
    data: str | Path | Sequence[str], folder: Path | None, *, is_text: bool
) -> tuple[list[str], Path | None]:
    """The names of the inputs in their order, and the folder of images; None of texts."""
    if folder is not None and folder.is_dir():
        if is_text:
            raise UsageError(
                f"{folder} is a folder, and the model is one of texts",
                hint="name a text file with one text a line",
            )
        return _images(folder), folder
    if folder is not None:
        names, base = _lines(folder), folder.parent
    else:
        names, base = [str(name) for name in data], Path()  # type: ignore[union-attr]
    return names, None if is_text else base


def _states(base: Path, names: Sequence[str]) -> Iterator[str]:
    """What tells these images from others of the same names, and from what they will be."""
    yield str(base.resolve())
    for name in names:
        try:
            state = (base / name).stat()
        except OSError:
            yield "gone"
        else:
            yield f"{state.st_size} {state.st_mtime_ns}"


def _images(folder: Path) -> list[str]:
    """The images in a folder and the folders in it, sorted; hidden ones are not looked at."""
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(here, name).relative_to(folder).as_posix()
            for name in files
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
    if not found:
        raise DataError(f"there are no images in {folder}", hint=f"{', '.join(sorted(SUFFIXES))}")
    return sorted(found)


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is no text: {error}", hint="one input a line, in UTF-8") from error
    return [line for line in lines if line.strip()]
