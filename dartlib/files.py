"""Files and folders: whole or absent, told apart by content, found by one rule.

What this module does not do: it knows no record, no room and no run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[1]


def find_path(text: str | Path) -> Path:
    """The file or folder that a parameter names: absolute, else from the repository's root, else from this folder.

    FileNotFoundError says where it was looked for.
    """
    places = [REPOSITORY / Path(text).expanduser(), Path.cwd() / Path(text).expanduser()]
    if found := [place for place in places if place.exists()]:
        return found[0]
    raise FileNotFoundError(f"{text}: no such file or folder (looked for {' and '.join(map(str, places))})")


def write_table_atomically(path: Path, table: pa.Table) -> None:
    """Write Parquet so that the file is whole or absent."""
    with replacing(path) as handle:
        pq.write_table(table, handle, compression="zstd")


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write a small file so that readers see the old one or the new one, never a part."""
    with replacing(path) as handle:
        handle.write(data)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a small UTF-8 text file, whole or absent."""
    write_bytes_atomically(path, text.encode())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A handle whose bytes become ``path`` at the end: temporary name, fsync, rename, fsync of the folder.

    When the disk refuses, the OSError names ``path``, which is as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:  # not the disk's: what the caller was writing could not be had
            raise
        why = f"{error.strerror or error}: not written, nothing that was there is lost; make room and run again"
        raise OSError(error.errno, why, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_folder() -> Path:
    """``$DARTLIB_CACHE``, else ``$XDG_CACHE_HOME/dartlib``, else ``~/.cache/dartlib``; made if missing."""
    named = os.environ.get("DARTLIB_CACHE")
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dartlib"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
