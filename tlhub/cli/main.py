"""The command `tlhub`: one command, one module; errors and exit codes are handled here."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from catalog.errors import TlhubError, UsageError
from tlhub.cli import output

# Each is a module of this name here: with a function of its name, or an `app` of several.
COMMANDS = (
    "search",
    "show",
    "compare",
    "similar",
    "pull",
    "convert",
    "layers",
    "bench",
    "predict",
    "features",
    "finetune",
    "evaluate",
    "runs",
    "lock",
    "bundle",
    "rm",
    "verify",
    "doctor",
)
GROUPS = ("catalog", "cache", "data")


def application(asked: str | None = None) -> typer.Typer:
    """The command with all its subcommands; where one of them is ``asked`` for, that alone."""
    app = typer.Typer(
        name="tlhub",
        help="Find, fetch, convert and fine-tune pretrained models.",
        epilog="Start with: tlhub search \"mobile image classifier\" --params '<10M' --sort top1",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in (asked,) if asked in (*COMMANDS, *GROUPS) else (*COMMANDS, *GROUPS):
        module = import_module(f"tlhub.cli.{name}")
        if name in GROUPS:
            app.add_typer(module.app, name=name)
        else:
            app.command()(getattr(module, str(name)))
    return app


def __getattr__(name: str) -> typer.Typer:
    if name == "app":
        return application()
    raise AttributeError(name)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        output.line(f"tlhub {version('tlhub')}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Find, fetch, convert and fine-tune pretrained models."""


def main() -> NoReturn:
    """Run the command line and exit with the code that `catalog.errors` documents."""
    as_json = "--json" in sys.argv
    app = application(sys.argv[1] if len(sys.argv) > 1 else None)
    output.prepare(as_json=as_json)
    output.stop_on_ctrl_c()
    try:
        # On its own, Typer prints its errors for people and exits.
        code = app(standalone_mode=not as_json)
    except TlhubError as error:
        output.fail(error, as_json=as_json)
        code = error.exit_code
    except typer.exceptions.TyperException as error:
        wrong = UsageError(str(error) or type(error).__name__, hint="see --help")
        output.fail(wrong, as_json=as_json)
        code = wrong.exit_code
    except SystemExit as stop:
        code = stop.code
    try:
        output.flush()
    except TlhubError as error:
        if not code:
            output.fail(error, as_json=as_json)
            code = error.exit_code
    if code == 130:  # Ctrl-C
        output.note("interrupted; nothing half-done was left in place")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from finetuning import ranks

        ranks.end(code if isinstance(code, int) else 0)
    sys.exit(code)


if __name__ == "__main__":
    main()
