"""The command `tlhub`: one command, one module; errors and exit codes are handled here."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from catalog.errors import TlhubError
from tlhub.cli import doctor, finetune, output, predict, pull, search, show

app = typer.Typer(
    name="tlhub",
    help="Find, fetch, convert and fine-tune pretrained models.",
    epilog="Start with: tlhub search \"mobile image classifier\" --params '<10M' --sort top1",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (search, show, pull, predict, finetune, doctor):
    app.command()(getattr(module, module.__name__.rpartition(".")[2]))


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        output.line(f"tlhub {version('tlhub')}")
        raise typer.Exit


@app.callback()
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
    output.log_warnings()
    try:
        app()
    except TlhubError as error:
        output.fail(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except SystemExit as stop:  # how Typer leaves, Ctrl-C included
        if stop.code == 130:
            output.note("interrupted; nothing half-done was left in place")
        raise
    sys.exit(0)


if __name__ == "__main__":
    main()
