"""`tlhub pull` in a process that was forked with everything imported, and with little patience."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import huggingface_hub.constants

import converters.folder
import converters.scanning
import hub_client.sources.hf
import hub_client.sources.http
import hub_client.transfer_many
from catalog.errors import TlhubError
from hub_client.network import Http, HttpSettings
from hub_client.patience import Patience
from tlhub import pulling
from tlhub.settings import Settings

CRASH = 70

__all__ = ["CRASH", "Order", "environ", "pull"]


@dataclass(frozen=True)
class Order:
    """One attempt: what to pull, from which hub, and where everything is kept."""

    url: str
    endpoint: str
    folder: Path


def environ(order: Order) -> dict[str, str]:
    """What tells a process of its own the same."""
    return {
        "TLHUB_HOME": str(order.folder / "home"),
        "TLHUB_CONFIG": os.devnull,
        "HF_HOME": str(order.folder / "hf"),
        "HF_ENDPOINT": order.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "NO_COLOR": "1",
    }


def pull(order: Order) -> None:
    """Pull, and end with the exit code of the command; what is no error of ours is a crash."""
    constants = huggingface_hub.constants
    constants.ENDPOINT = order.endpoint
    constants.HF_HUB_CACHE = str(order.folder / "hf" / "hub")
    constants.HF_HUB_DISABLE_IMPLICIT_TOKEN = constants.HF_HUB_DISABLE_XET = True
    hasty = partial(
        Patience, tries=4, first_wait_s=0.005, longest_wait_s=0.02, slowest_bytes_s=1.0, slow_s=2.0
    )
    http = partial(Http, HttpSettings(timeout_s=0.5))
    settings = Settings(home=order.folder / "home", offline=False)
    options = pulling.Options(format="original", include=("*",))
    with (
        mock.patch.object(hub_client.transfer_many, "Patience", hasty),
        mock.patch.object(hub_client.sources.http, "Http", http),
        mock.patch.object(hub_client.sources.hf, "Http", http),
    ):
        try:
            pulling.pull(pulling.plan(order.url, settings, options), settings)
            code = 0
        except TlhubError as error:
            code = error.exit_code
            with (order.folder / "words").open("a") as words:
                print(error.message, file=words)
        except BaseException:
            with (order.folder / "words").open("a") as words:
                traceback.print_exc(file=words)
            code = CRASH
    sys.exit(code)


# Imported here, so that no attempt spends its time on it.
assert converters.folder  # noqa: S101 -- says that the import is meant
assert converters.scanning  # noqa: S101
