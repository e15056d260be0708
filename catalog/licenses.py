"""Licenses as publishers write them -> an SPDX identifier and whether they allow commercial use."""

from __future__ import annotations

from typing import Literal

from catalog.record import License

Commercial = Literal["yes", "no", "unknown"]

# Those that publishers write as SPDX does, in any case: every one that a Hugging Face hub knows.
_SPDX = """
AFL-3.0 AGPL-3.0 Apache-2.0 Artistic-2.0 BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear BSL-1.0
CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 CC-BY-NC-2.0 CC-BY-NC-3.0 CC-BY-NC-4.0 CC-BY-NC-ND-3.0
CC-BY-NC-ND-4.0 CC-BY-NC-SA-2.0 CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 CC-BY-ND-4.0 CC-BY-SA-3.0
CC-BY-SA-4.0 CC0-1.0 CDLA-Permissive-1.0 CDLA-Permissive-2.0 CDLA-Sharing-1.0 ECL-2.0 EPL-1.0
EPL-2.0 etalab-2.0 EUPL-1.1 EUPL-1.2 GPL-2.0 GPL-3.0 ISC LGPL-2.1 LGPL-3.0 LPPL-1.3c MIT MPL-2.0
MS-PL NCSA OFL-1.1 OSL-3.0 PostgreSQL Unlicense WTFPL Zlib
"""


def _commercial(spdx: str) -> Commercial:
    return "no" if "-NC-" in spdx else "yes"


# Identifiers outside the SPDX list are `LicenseRef-*`. Those with conditions of their own (size
# of the company, field of use) are neither yes nor no: a lawyer's question stays open.
_KNOWN: dict[str, tuple[str, Commercial]] = {
    **{spdx.lower(): (spdx, _commercial(spdx)) for spdx in _SPDX.split()},
    "c-uda": ("C-UDA-1.0", "unknown"),
    "lgpl-lr": ("LGPLLR", "yes"),
    "odbl": ("ODbL-1.0", "yes"),
    "odc-by": ("ODC-By-1.0", "yes"),
    "pddl": ("PDDL-1.0", "yes"),
    "apple-amlr": ("LicenseRef-apple-amlr", "no"),
    "fair-noncommercial-research-license": (
        "LicenseRef-fair-noncommercial-research-license",
        "no",
    ),
    "non-commercial": ("LicenseRef-non-commercial", "no"),
    "https://github.com/facebookresearch/SWAG/blob/main/LICENSE": ("CC-BY-NC-4.0", "no"),
}
# How else publishers write some of them.
_ALIASES = {
    "apache 2.0": "apache-2.0",
    "apache 2.0 license": "apache-2.0",
    "apache license 2.0": "apache-2.0",
    "apache license, version 2.0": "apache-2.0",
    "mit license": "mit",
    "bsd-3": "bsd-3-clause",
    "bsd 3-clause license": "bsd-3-clause",
    'bsd 3-clause "new" or "revised" license': "bsd-3-clause",
    "gpl-3.0 license": "gpl-3.0",
    "mozilla public license, version 2.0": "mpl-2.0",
    "cc-by-sa 4.0": "cc-by-sa-4.0",
    "cc by-nc-nd 4.0": "cc-by-nc-nd-4.0",
    "cc by-nc 4.0": "cc-by-nc-4.0",
    "cc-by-nc 4.0": "cc-by-nc-4.0",
    "creative commons attribution 4.0 international license": "cc-by-4.0",
}
_UNSTATED = {"", "unknown", "other"}


# Words that only these texts have, the more specific first.
_TEXTS = (
    (("Apache License", "Version 2.0"), "Apache-2.0"),
    (("Permission is hereby granted, free of charge", "WITHOUT WARRANTY"), "MIT"),
    (("Redistributions of source code must", "Neither the name"), "BSD-3-Clause"),
    (("Redistributions of source code must",), "BSD-2-Clause"),
    (("GNU GENERAL PUBLIC LICENSE", "Version 3"), "GPL-3.0"),
    (("Mozilla Public License Version 2.0",), "MPL-2.0"),
)


def license_of(raw: str | None, scope: Literal["weights", "project"]) -> License | None:
    """The license that ``raw`` names; None where the publisher states none."""
    if raw is None or raw.strip().lower() in _UNSTATED:
        return None
    url = raw if raw.startswith("https://") else None
    plain = raw.strip().lower()
    known = _KNOWN.get(raw) or _KNOWN.get(_ALIASES.get(plain, plain))
    if known is not None:
        return License(scope=scope, spdx=known[0], raw=raw, url=url, commercial=known[1])
    own = None if url or " " in plain else f"LicenseRef-{plain}"
    return License(scope=scope, spdx=own, raw=raw, url=url)


def license_of_text(text: str) -> str | None:
    """The SPDX identifier of a license given in full; None for a text that is none of the usual."""
    plain = " ".join(text.split())
    for words, found in _TEXTS:
        if all(word in plain for word in words):
            return found
    return None
