from __future__ import annotations

from pathlib import Path

import pytest

from catalog.errors import AccessError
from catalog.record import License, ModelRecord
from tlhub import gate
from tlhub.settings import Settings


def settings(*allowed: str, commercial_only: bool = False) -> Settings:
    return Settings(
        home=Path("/nowhere"),
        offline=True,
        allow_licenses=allowed,
        commercial_only=commercial_only,
    )


def record(license_: License | None = None, project: License | None = None) -> ModelRecord:
    return ModelRecord(uid="a/b", license=license_, project_license=project)


APACHE = License(scope="weights", spdx="Apache-2.0", commercial="yes")
NC = License(scope="weights", spdx="CC-BY-NC-4.0", commercial="no")
OF_PROJECT = License(scope="project", spdx="MIT", commercial="yes")
EITHER = License(scope="weights", spdx="(GPL-3.0 OR MIT)", commercial="yes")
BOTH = License(scope="weights", spdx="GPL-3.0 AND MIT", commercial="yes")
NESTED = License(scope="weights", spdx="(MIT OR Apache-2.0) AND CC-BY-NC-4.0")
EXCEPT = License(scope="weights", spdx="GPL-2.0 WITH Classpath-exception-2.0 OR CC0-1.0")
DEEP = License(scope="weights", spdx="(" * 9000)
OWN = License(scope="weights", spdx="LicenseRef-llama3", commercial="unknown")


@pytest.mark.parametrize("model", [record(), record(NC), record(OF_PROJECT)])
def test_without_settings_all_is_allowed(model: ModelRecord) -> None:
    gate.check(model, settings())
    assert gate.verdict(model, settings()) == "allowed"


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        (record(APACHE), ["apache-2.0"]),
        (record(APACHE, OF_PROJECT), ["mit", "APACHE-2.0"]),
        (record(EITHER), ["mit"]),
        (record(BOTH), ["mit", "gpl-3.0"]),
        (record(NESTED), ["apache-2.0", "cc-by-nc-4.0"]),
        (record(EXCEPT), ["gpl-2.0 with classpath-exception-2.0"]),
        (record(OWN), ["LicenseRef-Llama3"]),
        (record(OF_PROJECT), ["project:mit"]),
        (record(None, OF_PROJECT), ["project:MIT"]),
        (record(), ["unknown"]),
    ],
)
def test_what_is_on_the_list_is_allowed(model: ModelRecord, allowed: list[str]) -> None:
    gate.check(model, settings(*allowed))


@pytest.mark.parametrize(
    ("model", "allowed", "said"),
    [
        (record(NC), ["mit"], r"CC-BY-NC-4\.0 \(scope: weights\)"),
        (record(NC, OF_PROJECT), ["project:mit"], "CC-BY-NC"),  # the weights have their own
        (record(OF_PROJECT), ["mit"], r"no license is stated for its weights, MIT is \(scope: p"),
        (record(None, OF_PROJECT), ["mit", "unknown"], "scope: project"),
        (record(), ["mit"], "its license is unknown"),
        (record(BOTH), ["mit"], "GPL-3.0 AND MIT"),
        (record(NESTED), ["mit"], "CC-BY-NC"),
        (record(NESTED), ["cc-by-nc-4.0"], "CC-BY-NC"),
        (record(EXCEPT), ["gpl-2.0", "classpath-exception-2.0"], "GPL-2.0 WITH"),
        (record(DEEP), ["mit"], "its license is"),
        (record(License(scope="weights", spdx="MIT)")), ["mit"], "its license is"),
        (record(License(scope="weights", spdx="(MIT")), ["mit"], "its license is"),
        (record(License(scope="weights", spdx="MIT OR")), ["mit"], "its license is"),
        (record(License(scope="weights", raw="see page")), ["mit"], "see page"),
    ],
)
def test_what_is_not_is_refused_by_name(model: ModelRecord, allowed: list[str], said: str) -> None:
    with pytest.raises(AccessError, match=said) as caught:
        gate.check(model, settings(*allowed))
    assert "allow_licenses" in caught.value.message
    assert caught.value.exit_code == 4


def test_commercial_only_wants_a_license_of_the_weights_that_says_yes() -> None:
    gate.check(record(APACHE), settings(commercial_only=True))
    gate.check(record(OF_PROJECT), settings("project:mit", commercial_only=True))
    for model in (record(NC), record(OF_PROJECT), record(OWN), record()):
        with pytest.raises(AccessError, match="commercial_only"):
            gate.check(model, settings(commercial_only=True))
    with pytest.raises(AccessError, match="commercial use: no"):
        gate.check(record(NC), settings("cc-by-nc-4.0", commercial_only=True))
    with pytest.raises(AccessError, match="commercial use: unknown"):
        gate.check(record(), settings("unknown", commercial_only=True))


def test_both_come_from_the_environment_and_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('allow_licenses = ["mit"]\ncommercial_only = true\n', encoding="utf-8")
    environ = {"TLHUB_CONFIG": str(file)}
    assert Settings.load(environ=environ).allow_licenses == ("mit",)
    assert Settings.load(environ=environ).commercial_only
    environ |= {"TLHUB_ALLOW_LICENSES": "apache-2.0, project:mit,", "TLHUB_COMMERCIAL_ONLY": "0"}
    assert Settings.load(environ=environ).allow_licenses == ("apache-2.0", "project:mit")
    assert not Settings.load(environ=environ).commercial_only
    environ["TLHUB_ALLOW_LICENSES"] = ""
    assert Settings.load(environ=environ).allow_licenses == ()
