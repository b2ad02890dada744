"""Parcels: a folder that travels to another machine by its content, never by its path.

Knows names, sizes and hashes of files, Ray's object store, and a cache on a node's disk. Does not
know what the files are for. Everything here blocks: call it in a thread. Ray is imported only where
bytes go through its object store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from weakref import WeakValueDictionary

from core.cluster.connection import ClusterError
from i18n.phrase import phrase

CHUNK_BYTES = 16 << 20
"""The largest piece that is kept or sent as one."""
CACHE_BYTES = 20 << 30
"""The default limit of a node's cache."""
CHUNK_TIMEOUT_S = 120.0
"""Seconds for a piece to arrive, unless its machine is gone: it need not have said so."""
PARTIAL_PREFIX = ".partial-"
"""Of folders that are being written. One that a kill left behind is evicted like a parcel."""
IN_USE_S = 600.0
"""Seconds after its last use in which a parcel is not removed."""
KEEP_S = 24 * 3600.0
"""Seconds after its last use in which a parcel is kept, if there is room: it may know what was
taught, and nobody tells a node of a model that the bot has removed."""


@dataclass(frozen=True)
class ParcelFile:
    """A file: its name relative to the folder (with `/`), its bytes and their SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Parcel:
    """What a folder holds; `name` is what people call it."""

    name: str
    files: tuple[ParcelFile, ...]

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the name and of all names and contents: equal folders are one parcel."""
        found = hashlib.sha256(f"{self.name}\n".encode())
        for one in self.files:
            found.update(f"{one.sha256} {one.size} {one.name}\n".encode())
        return found.hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.files)


@dataclass(frozen=True, eq=False)
class Shipment:
    """A parcel with its bytes in the object store, as references to the chunks in their order. They
    stay there as long as anybody holds the references, and the process that put them lives."""

    parcel: Parcel
    chunks: tuple[Any, ...]

    def fetch(self) -> Iterator[bytes]:
        """The chunks, one after the other.

        Raises:
            ClusterError: they are gone, or do not come.
        """
        import ray

        for one in self.chunks:
            try:
                yield ray.get(one, timeout=CHUNK_TIMEOUT_S)
            except ray.exceptions.RayError as e:
                raise ClusterError(
                    phrase(
                        "{name} did not arrive whole on a machine of the cluster: "
                        "{error}. Try again.",
                        name=self.parcel.name,
                        error=type(e).__name__,
                    )
                ) from e


def describe(folder: Path, files: Iterable[Path] | None = None, name: str | None = None) -> Parcel:
    """The parcel of a folder: of some of its `files`, or of all that lie in it at any depth.

    Links are followed to the file that they lead to, so a validated folder must be given.

    Raises:
        OSError: a file cannot be read.
    """
    chosen = files if files is not None else (one for one in folder.rglob("*") if one.is_file())
    named = sorted((one.relative_to(folder).as_posix(), one) for one in chosen)
    return Parcel(name or folder.name, tuple(_describe_file(*one) for one in named))


def _describe_file(name: str, path: Path) -> ParcelFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ParcelFile(name, os.fstat(file.fileno()).st_size, digest)


def read_chunks(folder: Path, parcel: Parcel) -> Iterator[bytes]:
    """The bytes of all files as one sequence, in pieces of CHUNK_BYTES at most; none is empty.

    Raises:
        OSError: a file cannot be read. One that changed meanwhile is noticed by `unpack`.
    """
    waiting: list[bytes] = []
    held = 0
    for one in parcel.files:
        with (folder / one.name).open("rb") as file:
            while piece := file.read(CHUNK_BYTES - held):
                waiting.append(piece)
                held += len(piece)
                if held == CHUNK_BYTES:
                    yield b"".join(waiting)
                    waiting, held = [], 0
    if held:
        yield b"".join(waiting)


def unpack(parcel: Parcel, chunks: Iterable[bytes], folder: Path) -> None:
    """Write a parcel's files as `folder`, which appears whole or not at all, in place of one that
    was there.

    Raises:
        ClusterError: a name leads out of the folder, or the bytes are not those of the parcel.
        OSError: it cannot be written.
    """
    _check_names(parcel)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=PARTIAL_PREFIX, dir=folder.parent, ignore_cleanup_errors=True
    ) as partial:
        new, old = Path(partial, "new"), Path(partial, "old")
        new.mkdir()
        _write_files(parcel, chunks, new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


def _check_names(parcel: Parcel) -> None:
    names = {one.name for one in parcel.files} | {parcel.name}
    bad = {one for one in names if not _is_inside(one)}
    if "/" in parcel.name:
        bad.add(parcel.name)
    for name in bad:
        raise ClusterError(
            phrase("A parcel was refused: “{name}” leads out of its folder.", name=name[:80])
        )


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        bool(parts)
        and not name.startswith("/")
        and ".." not in parts
        and not any(sign in name for sign in "\\:\0")
    )


def _write_files(parcel: Parcel, chunks: Iterable[bytes], folder: Path) -> None:
    source = _Reader(chunks)
    for one in parcel.files:
        path = folder / one.name
        path.parent.mkdir(parents=True, exist_ok=True)
        digest, missing = hashlib.sha256(), one.size
        with path.open("wb") as file:
            while missing and (piece := source.read(missing)):
                file.write(piece)
                digest.update(piece)
                missing -= len(piece)
        if missing or digest.hexdigest() != one.sha256:
            raise _damaged(parcel)
    if source.read(1):
        raise _damaged(parcel)


def _damaged(parcel: Parcel) -> ClusterError:
    return ClusterError(
        phrase("{name} arrived damaged, or changed while it was sent: try again.", name=parcel.name)
    )


class _Reader:
    """Chunks, read in other pieces."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def read(self, most: int) -> memoryview:
        """Up to `most` bytes; none at the end."""
        while not self._rest and (chunk := next(self._chunks, None)) is not None:
            self._rest = memoryview(chunk)
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece


class Shipments:
    """Puts parcels into the object store, each once for all who send it at the same time."""

    def __init__(self) -> None:
        self._shipments: WeakValueDictionary[str, Shipment] = WeakValueDictionary()
        self._lock = threading.Lock()

    def ship(self, folder: Path, parcel: Parcel) -> Shipment:
        """The parcel of a folder, ready to be sent as an argument of a call. Raises: as `ship`."""
        with self._lock:
            if (known := self._shipments.get(parcel.digest)) is None:
                known = self._shipments[parcel.digest] = ship(folder, parcel)
            return known


def ship(folder: Path, parcel: Parcel) -> Shipment:
    """The parcel of a folder with its bytes in the object store.

    Raises:
        ClusterError: there is no room.
        OSError: a file cannot be read.
    """
    return Shipment(parcel, tuple(put_chunks(read_chunks(folder, parcel))))


def put_chunks(chunks: Iterable[bytes]) -> Iterator[Any]:
    """References to the chunks, which are put into the object store one by one.

    Raises:
        ClusterError: there is no room.
    """
    import ray

    try:
        for one in chunks:
            yield ray.put(one)
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as e:
        raise ClusterError(
            phrase(
                "The cluster's object store is full: free some disk on its machines, or start them "
                "with a larger --object-store-memory."
            )
        ) from e


class ParcelCache:
    """The parcels on a node's disk, as ROOT/DIGEST/NAME; above `limit` bytes those that were not
    used for longest are removed, and others by `drop`. Several processes may share a root."""

    def __init__(self, root: Path, limit: int = CACHE_BYTES) -> None:
        self._root = root
        self._limit = limit

    def find(self, digest: str) -> Path | None:
        """The folder of a parcel, if it is here; it counts as used now."""
        home = self._root / digest
        try:
            os.utime(home)
            return next(home.iterdir(), None)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def add(self, parcel: Parcel, chunks: Iterable[bytes]) -> Path:
        """Unpack a parcel, unless it is here. Returns its folder.

        Raises:
            ClusterError: see `unpack`.
            OSError: it cannot be written.
        """
        _check_names(parcel)
        return self.make(parcel.digest, parcel.name, lambda to: unpack(parcel, chunks, to))

    def make(self, key: str, name: str, write: Callable[[Path], None]) -> Path:
        """The folder ROOT/KEY/NAME, which `write` makes unless it is here."""
        if (found := self.find(key)) is not None:
            return found
        self._root.mkdir(parents=True, exist_ok=True)
        home = self._root / key
        with tempfile.TemporaryDirectory(
            prefix=PARTIAL_PREFIX, dir=self._root, ignore_cleanup_errors=True
        ) as partial:
            new = Path(partial, "new")
            new.mkdir()
            write(new / name)
            try:
                new.rename(home)
            except OSError:
                if not home.is_dir():  # else another process was first
                    raise
        self._evict(keep=home)
        return home / name

    def drop(self, unused_s: float = KEEP_S) -> None:
        """Remove what was not used for so many seconds, and is not being written."""
        now = time.time()
        for used_at, home in list(self._homes()):
            is_partial = home.name.startswith(PARTIAL_PREFIX)
            if now - used_at > (KEEP_S if is_partial else max(unused_s, IN_USE_S)):
                shutil.rmtree(home, ignore_errors=True)

    def _evict(self, keep: Path) -> None:
        now, total = time.time(), 0
        for used_at, home in sorted(self._homes(), reverse=True):
            total += _folder_bytes(home)
            if total > self._limit and home != keep and now - used_at > IN_USE_S:
                shutil.rmtree(home, ignore_errors=True)

    def _homes(self) -> Iterator[tuple[float, Path]]:
        for one in self._root.glob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process evicts as well
                yield one.stat().st_mtime, one


def _folder_bytes(folder: Path) -> int:
    """Of what is there: another process may be writing or removing it, which `os.walk` bears."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(path, name).stat().st_size
    return total
