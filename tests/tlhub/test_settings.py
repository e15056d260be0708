from pathlib import Path

import pytest

from catalog.errors import UsageError
from tlhub.settings import ENVIRONMENT, Settings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def config(tmp_path: Path, text: str) -> dict[str, str]:
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return {"TLHUB_CONFIG": str(file)}


def test_an_argument_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    environ = config(tmp_path, 'home = "/from/file"\noffline = true\n')
    assert Settings.load(environ=environ) == Settings(home=Path("/from/file"), offline=True)
    environ["TLHUB_HOME"] = "/from/environment"
    environ["TLHUB_OFFLINE"] = "0"
    loaded = Settings.load(environ=environ)
    assert loaded == Settings(home=Path("/from/environment"), offline=False)
    assert Settings.load(home="/from/argument", environ=environ).home == Path("/from/argument")


@pytest.mark.parametrize("name", ["TLHUB_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_is_read_from_either_variable(name: str, tmp_path: Path) -> None:
    environ = {name: "1", "TLHUB_CONFIG": str(tmp_path / "none.toml")}
    assert Settings.load(environ=environ).offline
    assert not Settings.load(offline=False, environ=environ).offline


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("home = ", "not TOML"),
        ("hom = '/x'", "unknown setting 'hom'"),
        ("home = 3", "must be a str"),
        ("offline = 'yes'", "must be a bool"),
    ],
)
def test_a_wrong_settings_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Settings.load(environ=config(tmp_path, text))


def test_a_flag_that_is_neither_yes_nor_no_is_refused(tmp_path: Path) -> None:
    environ = {"TLHUB_OFFLINE": "perhaps", "TLHUB_CONFIG": str(tmp_path / "none.toml")}
    with pytest.raises(UsageError, match="TLHUB_OFFLINE='perhaps'"):
        Settings.load(environ=environ)


def test_every_setting_is_documented() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    for variable in ENVIRONMENT.values():
        assert f"`{variable}`" in text
