from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine
from small_hub import SmallHub, tiny_model


@pytest.fixture(scope="session")
def small_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallHub]:
    """A hub with `acme/tiny`, a model that converts in seconds."""
    hub = SmallHub()
    hub.put("acme/tiny", tiny_model(tmp_path_factory.mktemp("tiny")))
    yield hub
    hub.close()


@pytest.fixture
def machine(tmp_path: Path, small_hub: SmallHub) -> Machine:
    """A machine with nothing on it."""
    return Machine(tmp_path / "machine", small_hub)


@pytest.fixture(scope="session")
def _pulled(tmp_path_factory: pytest.TempPathFactory, small_hub: SmallHub) -> Machine:
    machine = Machine(tmp_path_factory.mktemp("pulled") / "machine", small_hub)
    machine("pull", "hf:acme/tiny")
    return machine


@pytest.fixture
def stocked(_pulled: Machine, tmp_path: Path, small_hub: SmallHub) -> Machine:
    """A machine on which `hf:acme/tiny` was pulled and converted."""
    shutil.copytree(_pulled.folder, tmp_path / "stocked", symlinks=True)
    return Machine(tmp_path / "stocked", small_hub)
