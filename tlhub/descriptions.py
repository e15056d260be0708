"""Records out of what describes a model: folders, model cards, JSON, repositories."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from catalog import model_card
from catalog.errors import DataError, NotFoundError, OfflineError, UnsafeError, UsageError
from catalog.record import UNREADABLE, Artifact, Digest, ModelRecord, Provenance, decode
from tlhub.progress import Event, Progress
from tlhub.settings import Settings
from tlhub.shipped import Shipped

if TYPE_CHECKING:
    from hub_client.sources.source import Job

_CARD = "README.md"
_LARGEST_CARD_BYTES = 4 << 20
_LARGEST_BYTES = 256 << 20  # of records
_FIELDS = ModelRecord.__struct_fields__


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
    """Say of what was wrong where it was."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from error


@dataclass(frozen=True)
class Reader:
    """Reads the records of a source; ``uid`` is what the one model there is to be called."""

    uid: str | None
    shipped: Shipped
    settings: Settings
    progress: Progress

    def read(self, source: str) -> Iterator[tuple[str, ModelRecord]]:
        """The records, each with where it was found; they are not checked beyond their types.

        Raises:
            UsageError: a field does not validate, which the message names.
            NotFoundError, AccessError, NetworkError, OfflineError: the source cannot be read.
            UnsafeError: it leads out of its folder, or is made to exhaust the machine.
            IntegrityError: a model folder is not whole.
        """
        from hub_client.sources.file import path_of
        from hub_client.sources.registry import is_local, is_url

        if is_url(source) and not is_local(source):
            yield from self._remote(source)
            return
        path = path_of(source) if is_url(source) else Path(source).expanduser()
        path = path.absolute()
        if path.is_dir():
            yield str(path), self._folder(path)
        elif path.name == "tlhub.json" and path.is_file():
            yield str(path), self._model_folder(path.parent)
        else:
            called = f"own/{_slug(path.parent.name)}"
            yield from self._document(
                _bytes_of(path, _LARGEST_BYTES), str(path), path.as_uri(), called
            )

    def _remote(self, url: str) -> Iterator[tuple[str, ModelRecord]]:
        from hub_client.network import Http, redact
        from hub_client.sources.registry import scheme_of

        if scheme_of(url) not in {"http", "https"}:
            yield url, self._repository(url)
            return
        shown = redact(url)
        if self.settings.offline:
            raise OfflineError(
                f"{shown} is on the network, which was ruled out", hint="run it without --offline"
            )
        self.progress(Event(f"reading {shown}"))
        with contextlib.closing(Http()) as http:
            body, _, _ = http.read(url, limit_bytes=_LARGEST_BYTES)
        for where, record in self._document(body, shown, shown, None):
            for artifact in record.artifacts:
                if any(address.lower().startswith("file:") for address in artifact.urls):
                    raise UnsafeError(f"{where}: {artifact.path} is said to be on this machine")
            yield where, record

    def _repository(self, url: str) -> ModelRecord:
        """The record of a repository of a hub, whose addresses lead back to it."""
        from huggingface_hub import constants

        from catalog.hf_record import address_of, source_of
        from hub_client.places import resolve
        from hub_client.selection import of_repository, weights_among
        from hub_client.sources.hf_errors import RepoFile

        if not url.startswith(("hf:", "hub+")) or "!" in url:
            raise UsageError(
                f"{url} is no model's description",
                hint="name a folder, a model card, a file of records, an https: URL of one, or "
                "hf:owner/name",
            )
        repo = RepoFile.parse(url)
        if repo.endpoint is None:
            url = f"{address_of(constants.ENDPOINT.rstrip('/'), repo.repo)}@{repo.revision}"
        self.progress(Event(f"asking for {url}"))
        place = resolve(
            url, self._job(), offline=self.settings.offline, mirrors=self.settings.mirrors
        )
        record = place.record or ModelRecord(uid=f"hf/{repo.repo}", hf_hub_id=repo.repo)
        if repo.endpoint is not None:
            uid = f"{source_of(repo.endpoint)}/{repo.repo}"
            record = msgspec.structs.replace(record, uid=uid, hf_hub_id=None)
        artifacts = weights_among(of_repository(place.artifacts))
        provenance = Provenance(fields=("artifacts",), source=place.url)
        return self._renamed(
            msgspec.structs.replace(
                record, artifacts=artifacts, provenance=(*record.provenance, provenance)
            )
        )

    def _folder(self, folder: Path) -> ModelRecord:
        if (folder / "tlhub.json").is_file():
            return self._model_folder(folder)
        if not (folder / _CARD).is_file():
            raise NotFoundError(
                f"{folder} has no {_CARD} and no tlhub.json",
                hint=f"describe the model in a {_CARD} with metadata: "
                "https://huggingface.co/docs/hub/model-cards",
            )
        card = _text_of(_bytes_of(folder / _CARD, _LARGEST_CARD_BYTES), str(folder / _CARD))
        with named(str(folder / _CARD)):
            record = self._of_card(card, folder.as_uri(), f"own/{_slug(folder.name)}")
        record = _configured(record, folder / "config.json")
        return msgspec.structs.replace(record, artifacts=tuple(self._files(folder)))

    def _files(self, folder: Path) -> Iterator[Artifact]:
        """What `pull` needs of a folder, weights first, each hashed."""
        from converters.folder import sha256_of
        from hub_client.places import resolve
        from hub_client.selection import of_repository
        from hub_client.sources.file import path_of, user_file

        found = of_repository(resolve(folder.as_uri(), self._job()).artifacts)
        for artifact in sorted(found, key=lambda a: (a.safe is None, a.path)):
            path = path_of(artifact.urls[0])
            _refuse_stray(path, folder)
            self.progress(Event(f"hashing {artifact.path}"))
            with user_file(path):
                sha256 = sha256_of(path)
            yield msgspec.structs.replace(artifact, digest=Digest(algorithm="sha256", value=sha256))

    def _model_folder(self, path: Path) -> ModelRecord:
        """The record of a folder that tlhub made, whose files are those in it."""
        from converters.folder import ONNX, ModelFolder
        from hub_client.sources.single import single

        folder = ModelFolder.open(path)
        self.progress(Event(f"verifying {path}"))
        folder.verify()
        artifacts = []
        for name, entry in folder.manifest.files.items():
            digest = Digest(algorithm="sha256", value=entry.sha256)
            item = single(name, (path / name).as_uri(), digest, entry.size_bytes)
            # The other weights of a run are those of its head alone.
            if item.safe is not None and (folder.manifest.kind != "run" or name == ONNX):
                artifacts.append(msgspec.structs.replace(item, path=name))
        artifacts.sort(key=lambda item: (item.format == "onnx", item.path))
        return self._renamed(
            msgspec.structs.replace(folder.manifest.record, artifacts=tuple(artifacts))
        )

    def _document(
        self, body: bytes, where: str, source: str, called: str | None
    ) -> Iterator[tuple[str, ModelRecord]]:
        """The records of a file: JSON, or a card that is called ``called`` unless it says more."""
        text = _text_of(body, where)
        if text.lstrip()[:1] in {"{", "["}:
            for place, raw in _items(text, where):
                with named(place):
                    yield place, _record_of(raw, self.uid)
        elif len(body) <= _LARGEST_CARD_BYTES:
            with named(where):
                yield where, self._of_card(text, source, called)
        else:
            raise UsageError(f"{where} is neither records in JSON nor a model card")

    def _of_card(self, text: str, source: str, called: str | None) -> ModelRecord:
        def refuse(field: str, wrong: str) -> NoReturn:
            raise UsageError(f"{field}: {wrong}")

        said = model_card.metadata(text)
        found = model_card.fields(said, complain=refuse, uid_of=self.shipped.uid_of)
        found["description"] = model_card.summary(text)
        known = {field: value for field, value in found.items() if value not in (None, (), "")}
        uid = self.uid or _name_in(said) or called
        if uid is None:
            raise UsageError("the card does not say what it is called", hint="name a --uid")
        provenance = Provenance(fields=tuple(known), source=source)
        return ModelRecord(uid=uid, provenance=(provenance,), **known)

    def _renamed(self, record: ModelRecord) -> ModelRecord:
        return msgspec.structs.replace(record, uid=self.uid) if self.uid else record

    def _job(self) -> Job:
        from hub_client.sources.source import Job

        return Job(self.settings.store)


def _name_in(said: dict[str, Any]) -> str | None:
    """The uid of a model by the name that its `model-index` gives it."""
    index = said.get("model-index")
    first = index[0] if isinstance(index, list) and index else None
    name = first.get("name") if isinstance(first, dict) else None
    return f"own/{_slug(name)}" if isinstance(name, str) and _slug(name) else None


def _slug(name: str) -> str:
    """A name as a uid can have it."""
    return re.sub(r"[^A-Za-z0-9_.-]+|\.\.+", "-", name).strip("-.")[:100]


def _configured(record: ModelRecord, config: Path) -> ModelRecord:
    """The record with what a `config.json` says besides; one of another kind says nothing."""
    from tlhub import repositories

    if not config.is_file():
        return record
    try:
        return repositories.described(record, _bytes_of(config, repositories.LARGEST_BYTES))
    except DataError:
        return record


def _refuse_stray(path: Path, folder: Path) -> None:
    """Files are in their folder, or where the Hugging Face cache has them."""
    real, home = path.resolve(), folder.resolve()
    if not (real.is_relative_to(home) or real.is_relative_to(home.parent.parent / "blobs")):
        raise UnsafeError(
            f"{path} is a link that leads out of its folder, to {real}",
            hint="put the file itself there",
        )


def _bytes_of(path: Path, limit_bytes: int) -> bytes:
    from hub_client.sources.file import user_file

    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file")  # a pipe would keep us waiting
    with user_file(path), path.open("rb") as stream:
        body = stream.read(limit_bytes + 1)
    if len(body) > limit_bytes:
        raise UsageError(f"{path} is longer than {limit_bytes >> 20} MiB")
    return body


def _text_of(body: bytes, where: str) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is no text in UTF-8: {error.reason}") from error


def _items(text: str, where: str) -> Iterator[tuple[str, msgspec.Raw]]:
    """The records of a JSON document, not yet read: one, a list of them, or one on each line."""
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if text.lstrip().startswith("["):
        found = [
            (f"{where}[{n}]", raw) for n, raw in enumerate(_json(text, where, list[msgspec.Raw]))
        ]
    elif len(lines) > 1 and lines[0][1].rstrip().endswith("}"):
        found = [(f"{where}:{n}", msgspec.Raw(line.encode())) for n, line in lines]
    else:
        found = [(where, msgspec.Raw(text.encode()))]
    if not found:
        raise UsageError(f"{where} has no records")
    yield from found


def _record_of(raw: msgspec.Raw, uid: str | None) -> ModelRecord:
    said = _json(raw, "", dict[str, msgspec.Raw])
    if uid is not None:
        said["uid"] = msgspec.Raw(msgspec.json.encode(uid))
    for name in said:
        if name not in _FIELDS:
            from difflib import get_close_matches

            close = get_close_matches(name[:100], _FIELDS, 1)
            raise UsageError(
                f"{name[:100]!r}: a record has no such field",
                hint=f"did you mean {close[0]}?" if close else "docs/reference/record.md has them",
            )
    return decode(msgspec.json.encode(said))


def _json(text: str | msgspec.Raw, where: str, type_: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=type_)
    except UNREADABLE as error:
        raise UsageError(f"{where}{': ' if where else ''}{error}") from error
