"""Licenses as publishers write them -> an SPDX identifier and whether they allow commercial use."""

from __future__ import annotations

from typing import Literal

from catalog.record import License

Commercial = Literal["yes", "no", "unknown"]

# Identifiers outside the SPDX list are `LicenseRef-*`. Those with conditions of their own (size
# of the company, field of use) are neither yes nor no: a lawyer's question stays open.
_KNOWN: dict[str, tuple[str, Commercial]] = {
    "apache-2.0": ("Apache-2.0", "yes"),
    "mit": ("MIT", "yes"),
    "bsd-3-clause": ("BSD-3-Clause", "yes"),
    "cc-by-4.0": ("CC-BY-4.0", "yes"),
    "cc-by-nc-4.0": ("CC-BY-NC-4.0", "no"),
    "apple-amlr": ("LicenseRef-apple-amlr", "no"),
    "fair-noncommercial-research-license": (
        "LicenseRef-fair-noncommercial-research-license",
        "no",
    ),
    "agpl-3.0": ("AGPL-3.0", "yes"),
    "bsd-2-clause": ("BSD-2-Clause", "yes"),
    "cc-by-nc-sa-4.0": ("CC-BY-NC-SA-4.0", "no"),
    "cc-by-nc-nd-4.0": ("CC-BY-NC-ND-4.0", "no"),
    "cc-by-sa-4.0": ("CC-BY-SA-4.0", "yes"),
    "gpl-3.0": ("GPL-3.0", "yes"),
    "mpl-2.0": ("MPL-2.0", "yes"),
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
