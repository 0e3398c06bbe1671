"""Files and folders: whole or absent, told apart by content, found by one rule.

What this module does not do: it knows no record and no room, and of run folders only which was completed last.
"""

import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[1]
RUNS = REPOSITORY / "papermill_runs"
NEWEST = RUNS / "newest"  # in a parameter: the run that was completed last, whatever its name
_QUICKLY_READ = 10_000_000  # bytes; hashes of larger files are kept in the cache


def find_path(text: str | Path, log: Callable[[str], None] = print) -> Path:
    """The file or folder that a parameter names: absolute, else from the repository's root, else from this folder.

    So a notebook finds the same file from JupyterLab (which starts kernels in ``notebooks/``), from papermill and from
    a folder of one's own. Where both places have something of that name, the repository's is taken and ``log`` says
    so. Below ``papermill_runs/newest`` the path is looked up in the run that was completed last of those that have it,
    and ``log`` names the run. FileNotFoundError says where it was looked for.
    """
    path = Path(text).expanduser()
    places = list(dict.fromkeys([REPOSITORY / path, Path.cwd() / path]))  # an absolute path is both
    if places[0].is_relative_to(NEWEST):
        return _in_newest_run(places[0].relative_to(NEWEST), log)
    found = [place for place in places if os.path.exists(place)]
    if not found:
        raise FileNotFoundError(f"{text}: looked for {' and '.join(map(str, places))}: no such file")
    if len(found) == 2 and not os.path.samefile(*found):
        log(f"{text}: {found[0]} is taken; if you mean {found[1]}, give its absolute path")
    return found[0]


def _in_newest_run(path: Path, log: Callable[[str], None]) -> Path:
    """Complete is a run folder in which every stage of its run.json has its manifest."""
    runs: dict[str, Path] = {}
    for record in RUNS.glob("*/run.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # not a complete run
            stages = [record.parent / stage["name"] for stage in json.loads(record.read_bytes())["stages"]]
            finished = [json.loads((stage / "manifest.json").read_bytes())["finished"] for stage in stages]
            if (record.parent / path).exists():
                runs[max(finished)] = record.parent
    if not runs:
        raise FileNotFoundError(
            f"no complete run in {RUNS} has {'a stage' if path == Path() else path}: run `make reproduce`, or name a "
            "run folder instead of newest"
        )
    finished_last, run = max(runs.items())
    log(f"run: {run.relative_to(REPOSITORY)}, the newest complete one (finished {finished_last})")
    return run / path


def short_temporary_folder() -> str:
    """Where Unix sockets go: their paths hold 107 bytes, so that a long TMPDIR cannot be used."""
    return tempfile.gettempdir() if len(tempfile.gettempdir()) < 70 else "/tmp"


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

    When the disk is full, the OSError names ``path``, which is as it was before.
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
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # a network's reset is not the disk's
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


def content_digest(path: Path) -> str:
    """The sha256 of a file's content, or of the names and contents of all files in a folder, in hex.

    Those of large files are kept in the cache by path, size and time of change: weights are read once, not every time.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listed = [f"{file.relative_to(path).as_posix()} {content_digest(file)}" for file in files]
        return text_digest("\n".join(listed))
    state = path.stat()
    if state.st_size < _QUICKLY_READ:
        return sha256_of(path)
    identity = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
    kept = cache_folder() / "digests" / text_digest(identity, 32)
    if not kept.exists():
        write_text_atomically(kept, sha256_of(path))
    return kept.read_text(encoding="utf-8")


def text_digest(text: str, digits: int = 64) -> str:
    """The first ``digits`` of a text's sha256, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]


def first_line(error: Exception) -> str:
    """What an error says first, for a message of one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; the kernel frees it if we die."""
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
