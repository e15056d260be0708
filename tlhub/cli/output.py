"""The only module that writes to the terminal: data to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from catalog.errors import StorageError, TlhubError
from tlhub.progress import Event, Progress, Rates, silent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


class ProgressMode(StrEnum):
    """How progress is shown on stderr."""

    auto = "auto"  # bars on a terminal, nothing elsewhere
    json = "json"  # one JSON object a line
    none = "none"


def console(stream: TextIO | None = None, into: TextIO | None = None) -> Console:
    """A Rich console on stdout; where that is no terminal, so wide that no value is broken.

    What it prints goes ``into`` another place, looking as it does here, where one is given.
    """
    from rich.console import Console

    stream = stream or sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 1000
    return Console(
        file=into or stream,
        force_terminal=stream.isatty() or None,
        width=width,
        highlight=False,
        soft_wrap=False,
    )


def show(renderable: RenderableType) -> None:
    """Print a table as data, without the blanks that fill its lines."""
    drawn = io.StringIO()
    console(into=drawn).print(renderable)
    for text in drawn.getvalue().splitlines():
        line(text.rstrip())


def line(text: str = "") -> None:
    """Print one line of data as it is."""
    with _stdout() as out:
        out.write(text + "\n")


def emit(value: Any) -> None:
    """Print the one JSON object of a command under ``--json``."""
    line(json.dumps(value, indent=2, ensure_ascii=False))


def flush() -> None:
    """Have all data that was printed arrive, or raise the error of `_stdout`."""
    with _stdout() as out:
        out.flush()


@contextlib.contextmanager
def _stdout() -> Iterator[TextIO]:
    """Standard output, where a reader may leave (`| head`) and a disk be full.

    The command of a reader who left goes on in silence. Either way nothing is left in the buffer
    that the interpreter would complain of at its end.
    """
    try:
        yield sys.stdout
    except OSError as error:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise StorageError(
                f"cannot write the answer to standard output: {error.strerror}",
                hint="free some space there, or send it elsewhere",
            ) from error


def note(text: str) -> None:
    """Print a hint or a warning to stderr."""
    sys.stderr.write(shown(text) + "\n")


def shown(text: str) -> str:
    """The text without what could steer a terminal: servers and files chose some of it."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def confirm(question: str) -> bool:
    """Whether the person at the terminal says yes; only where there is one."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def fail(error: TlhubError, *, as_json: bool) -> None:
    """Say what failed and the next step: two lines, or one JSON object, on stderr."""
    if as_json:
        value = {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
        note(json.dumps({"error": value}, ensure_ascii=False))
        return
    err = console(sys.stderr)
    from rich.text import Text

    err.print(Text.assemble(("error: ", "bold red"), shown(error.message)), soft_wrap=True)
    if error.hint:
        err.print(Text.assemble(("next: ", "bold"), shown(error.hint)), soft_wrap=True)


@contextlib.contextmanager
def progress(mode: ProgressMode, *, quiet: bool = False) -> Iterator[Progress]:
    """A sink for progress: bars where stderr is a terminal, JSON lines, or nothing."""
    if mode is ProgressMode.json:
        yield _or_stop(_json_lines())
    elif mode is ProgressMode.none or quiet or not sys.stderr.isatty():
        yield _or_stop(silent)
    else:
        with _bars() as report:
            yield _or_stop(report)


_stopped = threading.Event()


def stop_on_ctrl_c() -> None:
    """Let Ctrl-C stop the command even where Python loses the exception it raises.

    One that is raised in a weak reference's callback, of which importing torch runs many, is
    printed and forgotten. So it is remembered, and raised again at the next sign of progress.
    """

    def stop(*_: object) -> None:
        _stopped.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)


def _or_stop(report: Progress) -> Progress:
    def checked(event: Event) -> None:
        if _stopped.is_set():
            raise KeyboardInterrupt
        report(event)

    return checked


def _json_lines() -> Progress:
    rates = Rates()

    def report(event: Event) -> None:
        bytes_s, eta_s = rates.of(event)
        value = {"message": event.message, "done": event.done, "total": event.total}
        value["bytes_s"] = None if bytes_s is None else round(bytes_s)
        value["eta_s"] = None if eta_s is None else round(eta_s)
        kept = {k: v for k, v in value.items() if v is not None}
        sys.stderr.write(json.dumps(kept, ensure_ascii=False) + "\n")
        sys.stderr.flush()

    return report


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    err = console(sys.stderr)
    steps = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=err,
    )
    transfer = Progress(
        TextColumn("  {task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err,
    )
    from rich.console import Group
    from rich.live import Live

    current = steps.add_task("starting")
    bars: dict[str, Any] = {}

    def report(event: Event) -> None:
        if event.done is None:
            steps.reset(current, description=event.message)
            for bar in bars.values():
                transfer.remove_task(bar)
            bars.clear()
            return
        if event.message not in bars:
            bars[event.message] = transfer.add_task(event.message, total=event.total)
        transfer.update(bars[event.message], completed=event.done, total=event.total)

    with Live(Group(steps, transfer), console=err, transient=True, refresh_per_second=8):
        yield report


def prepare(*, as_json: bool) -> None:
    """Print any name whatever the terminal's encoding, and send what libraries log to stderr.

    With ``as_json`` a warning is a JSON object too, in a line of its own.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever started us closed it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the end
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs whole URLs below that
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if as_json else _Plain())
    for name in ("catalog", "hub_client", "converters", "finetuning", "tlhub"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False


class _Plain(logging.Formatter):
    def format(self, entry: logging.LogRecord) -> str:
        return shown(f"{entry.levelname.lower()}: {entry.getMessage()}")


class _Json(logging.Formatter):
    def format(self, entry: logging.LogRecord) -> str:
        return json.dumps({entry.levelname.lower(): entry.getMessage()}, ensure_ascii=False)
