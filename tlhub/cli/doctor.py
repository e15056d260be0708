"""`tlhub doctor`."""

from __future__ import annotations

import dataclasses

import typer

from tlhub.cli import options, output


def doctor(*, offline: options.Offline = False, json: options.Json = False) -> None:
    """Show what this machine has, where the caches are, what is reachable, and what to mend."""
    from tlhub.doctor import examine
    from tlhub.settings import Settings

    checks = []
    for check in examine(Settings.load(offline=offline or None)):
        checks.append(check)
        if not json:
            mark = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}[check.state]
            output.line(f"{mark}  {check.name}: {check.found}")
            if check.todo:
                output.line(f"         -> {check.todo}")
    if json:
        output.emit({"checks": [dataclasses.asdict(check) for check in checks]})
    if any(check.state == "error" for check in checks):
        raise typer.Exit(1)
