"""License identifiers of a Hugging Face hub, and those of the records that ship."""

from __future__ import annotations

import pytest
from packaging.licenses import canonicalize_license_expression

from catalog import snapshot
from catalog.licenses import license_of

# https://huggingface.co/docs/hub/repositories-licenses
HUB = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl
ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1
lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3
llama4 grok2-community gemma
"""
VERSIONED = {"c-uda": "C-UDA-1.0", "odc-by": "ODC-By-1.0", "odbl": "ODbL-1.0",
             "pddl": "PDDL-1.0", "lgpl-lr": "LGPLLR"}  # fmt: skip


@pytest.mark.parametrize("raw", HUB.split())
def test_what_spdx_has_too_is_named_as_it_has_it(raw: str) -> None:
    found = license_of(raw, "weights")
    assert found is not None
    assert found.spdx is not None
    try:
        expected = VERSIONED.get(raw) or canonicalize_license_expression(raw)
    except ValueError:
        expected = f"LicenseRef-{raw}"
    assert found.spdx == expected
    if "-nc-" in raw:
        assert found.commercial == "no"
    elif not found.spdx.startswith("LicenseRef-") and raw != "c-uda":
        assert found.commercial == "yes"


def test_no_record_that_ships_says_another_license_than_is_made_of_its_words() -> None:
    for record in snapshot.read():
        for stated in (record.license, record.project_license):
            if stated is not None and (stated.spdx or "").startswith("LicenseRef-"):
                found = license_of(stated.raw, "weights")
                assert found is not None
                assert found.spdx == stated.spdx, record.uid
