"""Which records are the same weights, and one record out of them.

The same full digest, the same canonical URL or the same Hugging Face repository is the same
weights. A like name never is, nor is a prefix of a digest, nor "converted from".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import msgspec

from catalog.record import Artifact, Digest, ModelRecord, Provenance

# What another home may know when the record itself does not. Preprocessing, head and the like
# belong to the framework that loads the weights and are never taken over.
_SHARED = (
    *("task", "modality", "description", "origin_url", "hf_hub_id", "num_classes", "label_set"),
    *("params", "license", "project_license", "base_model", "relation"),
)
_JOINED = ("tags", "paper_ids", "languages", "evals", "provenance")


def merge(records: Iterable[ModelRecord]) -> list[ModelRecord]:
    """One record for each set of weights; of several homes the first in ``records`` stands.

    The others are listed in its ``also``; it takes over the facts it lacks, their evaluations and
    the further URLs of files it has itself.
    """
    owners: dict[str, int] = {}
    groups: dict[int, list[ModelRecord]] = {}
    for number, record in enumerate(records):
        keys = list(_keys(record))
        homes = sorted({owners[key] for key in keys if key in owners})
        home = homes[0] if homes else number
        groups.setdefault(home, [])
        for other in homes[1:]:  # this record shows that two groups are one
            groups[home] += groups.pop(other)
            owners |= {key: home for key, owner in owners.items() if owner == other}
        groups[home].append(record)
        owners |= dict.fromkeys(keys, home)
    return [_one(group) for group in groups.values()]


def with_params_of_base(records: Iterable[ModelRecord]) -> list[ModelRecord]:
    """The records, where a conversion lacks its parameters with those of what it was made from.

    Only of a whole model: converted or quantized, of the same task and modality.
    """
    found = list(records)
    homes = {uid: record for record in found for uid in (record.uid, *record.also)}
    homes |= {record.hf_hub_id: record for record in found if record.hf_hub_id}
    for number, record in enumerate(found):
        base = homes.get(record.base_model or "")
        if (
            base is not None
            and base.params
            and not record.params
            and record.relation in {"converted", "quantized"}
            and (record.task, record.modality) == (base.task, base.modality)
        ):
            said = Provenance(fields=("params",), source=base.uid, derived=True)
            provenance = (*record.provenance, said)
            found[number] = msgspec.structs.replace(
                record, params=base.params, provenance=provenance
            )
    return found


def canonical(url: str) -> str | None:
    """The URL by which files are compared; None where a URL does not say which bytes it gives."""
    if not url.startswith(("https://", "http://")):
        return url if url.startswith(("pypi:", "hf:")) else None
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{(parts.hostname or '').lower()}{parts.path}{query}"


def _keys(record: ModelRecord) -> Iterator[str]:
    if record.hf_hub_id:
        yield f"hub {record.hf_hub_id.lower()}"
    for artifact in record.artifacts:
        yield from _file_keys(artifact)


def _file_keys(artifact: Artifact) -> Iterator[str]:
    if artifact.digest and not artifact.digest.prefix:
        yield f"{artifact.digest.algorithm} {artifact.digest.value}"
    for url in artifact.urls:
        place = canonical(url)
        if place:
            yield f"url {place}"


def _one(group: list[ModelRecord]) -> ModelRecord:
    first, *others = group
    for other in others:
        changes = {
            name: getattr(other, name)
            for name in _SHARED
            if getattr(first, name) is None and getattr(other, name) is not None
        }
        for name in _JOINED:
            ours = getattr(first, name)
            changes[name] = (*ours, *(item for item in getattr(other, name) if item not in ours))
        if _states_more(first, other):
            changes["license"] = other.license
        changes["also"] = (*first.also, other.uid, *other.also)
        changes["artifacts"] = tuple(_joined(item, other.artifacts) for item in first.artifacts)
        first = msgspec.structs.replace(first, **changes)
    return first


def _states_more(ours: ModelRecord, theirs: ModelRecord) -> bool:
    """Whether only the other home states a license of the weights' own."""
    of_weights = theirs.license is not None and theirs.license.scope == "weights"
    return of_weights and ours.license is not None and ours.license.scope == "project"


def _joined(ours: Artifact, theirs: tuple[Artifact, ...]) -> Artifact:
    for item in theirs:
        if set(_file_keys(ours)) & set(_file_keys(item)):
            ours = msgspec.structs.replace(
                ours,
                urls=(*ours.urls, *(url for url in item.urls if url not in ours.urls)),
                digest=_fuller(ours.digest, item.digest),
                size_bytes=ours.size_bytes or item.size_bytes,
            )
    return ours


def _fuller(ours: Digest | None, theirs: Digest | None) -> Digest | None:
    """Ours, unless only theirs is a whole digest."""
    if ours is None or (ours.prefix and theirs is not None and not theirs.prefix):
        return theirs
    return ours
