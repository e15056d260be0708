"""The command `tlhub`: one command, one module; errors and exit codes are handled here."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from catalog.errors import TlhubError, UsageError
from tlhub.cli import (
    catalog,
    compare,
    doctor,
    finetune,
    output,
    predict,
    pull,
    search,
    show,
    similar,
)

app = typer.Typer(
    name="tlhub",
    help="Find, fetch, convert and fine-tune pretrained models.",
    epilog="Start with: tlhub search \"mobile image classifier\" --params '<10M' --sort top1",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (search, show, compare, similar, pull, predict, finetune, doctor):
    app.command()(getattr(module, module.__name__.rpartition(".")[2]))
app.add_typer(catalog.app, name="catalog")


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
    as_json = "--json" in sys.argv
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
    if code == 130:  # Ctrl-C
        output.note("interrupted; nothing half-done was left in place")
    sys.exit(code)


if __name__ == "__main__":
    main()
