"""Versions of models: what a source holds at this moment, as parcels that a replica can load.

Used on both sides: the gateway describes a folder of its machine (`Versions`), a replica makes a
folder of its own from the parcels (`NodeModels`). Knows how an adapter finds its base. Everything
here blocks.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.cluster.parcels import KEEP_S, Parcel, ParcelCache, Shipment, describe
from model.cluster.messages import ModelRef
from model.convert.adapter_folder import (
    MANIFEST_FILE,
    AdapterFolder,
    check_base,
    find_base,
    is_adapter,
    validate_adapter,
)
from model.convert.build import LOAD_ERRORS, load_error_message
from model.convert.validation import (
    ADAPTER_FILE,
    WEIGHTS_PATTERN,
    allowed_files,
    resolve_source,
    validate_folder,
    weight_files,
)
from model.errors import LoadFailed
from model.registry import display_name, embedded_name_of, model_options

FileStates = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Version:
    """A source as it is now. `parcels` are those of `ref`, with the folder that each is of."""

    ref: ModelRef
    parcels: Mapping[str, tuple[Path, Parcel]]


class Versions:
    """Describes the models of this machine; hashes a folder again only when its files change."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[FileStates, Parcel]] = {}

    def describe(self, source: str) -> Version:
        """What a folder or Hub id holds now, once it is found to be a model that can be used.

        Raises:
            LoadFailed: the message says why it cannot.
        """
        try:
            if (name := embedded_name_of(source)) is not None:
                return Version(ModelRef(embedded=name), {})
            if is_adapter(source):
                return self._describe_adapter(Path(source))
            return self._describe_model(resolve_source(source), display_name(source))
        except LoadFailed:
            raise
        except LOAD_ERRORS as e:
            raise LoadFailed(load_error_message(source, e)) from e

    def _describe_model(self, folder: Path, who: str) -> Version:
        validate_folder(folder, who)
        weights = weight_files(folder, who)
        others = (one for one in allowed_files(folder) if not one.match(WEIGHTS_PATTERN))
        parcel = self._parcel(folder, [*weights, *others], who)
        return Version(ModelRef(digest=parcel.digest), {parcel.digest: (folder, parcel)})

    def _describe_adapter(self, folder: Path) -> Version:
        adapter = validate_adapter(folder, folder.name)
        base = self._describe_base(adapter)
        extras = (folder / name for name in (ADAPTER_FILE, MANIFEST_FILE))
        files = [*allowed_files(folder), *(one for one in extras if one.is_file())]
        parcel = self._parcel(folder, files, folder.name)
        ref = ModelRef(digest=parcel.digest, base=base.ref)
        return Version(ref, {**base.parcels, parcel.digest: (folder, parcel)})

    def _describe_base(self, adapter: AdapterFolder) -> Version:
        """Its weights are compared with those that it was trained on where it is loaded."""
        who = adapter.path.name
        base = find_base(adapter, who)
        check_base(adapter, base, who, adapter.base_sha256)
        if (name := embedded_name_of(str(base.path))) is not None:
            return Version(ModelRef(embedded=name), {})
        return self._describe_model(base.path, display_name(adapter.base))

    def _parcel(self, folder: Path, files: Iterable[Path], who: str) -> Parcel:
        chosen = sorted(set(files))
        facts = ((str(one), one.stat()) for one in chosen)
        now = tuple((name, one.st_size, one.st_mtime_ns) for name, one in facts)
        before, parcel = self._known.get(folder, ((), None))
        if parcel is None or before != now:
            parcel = describe(folder, chosen, who.rpartition("/")[2])
            self._known[folder] = now, parcel
        return parcel


def node_folder(cache: str | None) -> Path:
    """What a node keeps for the bot, replicas and trainings together (None: the user's cache)."""
    return Path(cache) if cache else Path.home() / ".cache" / "gpt2bot"


class NodeModels:
    """The models on a node's disk. Those who use one at the same time may do so in several
    processes."""

    def __init__(self, cache: ParcelCache) -> None:
        self._cache = cache

    @classmethod
    def of(cls, node: Path) -> NodeModels:
        """Those in a node's folder."""
        return cls(ParcelCache(node / "parcels"))

    def receive(self, shipments: Iterable[Shipment]) -> None:
        """Unpack what is not here yet.

        Raises:
            ClusterError: it did not arrive whole.
            OSError: it cannot be written.
        """
        for one in shipments:
            self._cache.add(one.parcel, one.fetch())

    def tidy(self, in_use: Iterable[ModelRef], *, drop_unused: bool = False) -> None:
        """Say which models are in use, so that the cache keeps them, and remove those that were not
        used for a day; or all others at once."""
        for ref in in_use:
            with suppress(OSError):
                self.folder(ref)
        self._cache.drop(0.0 if drop_unused else KEEP_S)

    def missing(self, ref: ModelRef) -> tuple[str, ...]:
        """The digests of its parcels that are not here."""
        base = self.missing(ref.base) if ref.base else ()
        if ref.digest is None or self._cache.find(ref.digest) is not None:
            return base
        return (*base, ref.digest)

    def folder(self, ref: ModelRef) -> Path:
        """The folder from which a model is loaded here; nothing of it is missing.

        Raises:
            OSError: it cannot be made.
        """
        if ref.embedded is not None:
            return Path(model_options[ref.embedded].source)
        found = self._cache.find(ref.digest or "")
        if found is None:
            raise FileNotFoundError(ref.digest)
        return self._beside_base(found, ref, self.folder(ref.base)) if ref.base else found

    def _beside_base(self, adapter: Path, ref: ModelRef, base: Path) -> Path:
        """The adapter's folder with the path of its base on this machine."""
        key = hashlib.sha256(f"{ref.digest} {base}".encode()).hexdigest()

        def write(folder: Path) -> None:
            folder.mkdir()
            for one in adapter.iterdir():
                if one.name in (ADAPTER_FILE, MANIFEST_FILE):
                    _point_to(base, one, folder / one.name)
                else:
                    _link_or_copy(one, folder / one.name)

        return self._cache.make(key, adapter.name, write)


def _point_to(base: Path, file: Path, copy: Path) -> None:
    """Copy settings of an adapter, so that its base is found at that path and not by its name."""
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings.pop("base_name", None)
    if file.name == ADAPTER_FILE:
        settings["base_model_name_or_path"] = str(base)
    copy.write_text(json.dumps(settings), encoding="utf-8")


def _link_or_copy(file: Path, copy: Path) -> None:
    try:
        os.link(file, copy)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, copy)
