"""Files appear complete or not at all, whatever interrupts the writing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from core.errors import StoreError
from core.files import write_atomically

MORE_THAN_A_PIPE_HOLDS = bytes(1 << 20)


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        write_atomically(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("folder", ["missing", "file", "folder"])
def test_what_cannot_be_written_is_one_sentence(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder" / "out").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"^out could not be written: .*\.$"):
        write_atomically(tmp_path / folder / "out", b"new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "out"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions of files")
def test_a_private_file_is_read_by_nobody_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(mode=0o644)
    (tmp_path / "file.partial").touch(mode=0o666)
    write_atomically(file, b"secret", private=True)
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"secret", 0o600)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid(), reason="needs an administrator")
def test_a_private_file_keeps_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.chown(file, 1234, 1235)
    write_atomically(file, b"secret", private=True)
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 1235)


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes with names, and signals")
def test_ctrl_c_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    """The partial file is a pipe here: once something can be read, the writing has begun."""
    (tmp_path / "file").write_text("old")
    os.mkfifo(tmp_path / "file.partial")
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        with (tmp_path / "file.partial").open("rb", buffering=0) as pipe:
            pipe.read(1)
            signal.pthread_kill(main, signal.SIGINT)
            writer.wait()

    writer = threading.Event()
    reader = threading.Thread(target=interrupt)
    reader.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored here
    try:
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "file", MORE_THAN_A_PIPE_HOLDS)
    finally:
        signal.signal(signal.SIGINT, before)
        writer.set()
        reader.join()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
