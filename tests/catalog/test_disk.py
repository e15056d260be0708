from __future__ import annotations

from pathlib import Path

import pytest

from catalog.disk import replacing
from catalog.errors import StorageError


@pytest.mark.parametrize("name", ["folder", "nowhere/file"])
def test_what_cannot_be_written_is_named_as_the_user_named_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    with pytest.raises(StorageError) as caught, replacing(path) as stream:
        stream.write(b"x")
    assert str(caught.value).startswith(f"{path} cannot be written: ")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
