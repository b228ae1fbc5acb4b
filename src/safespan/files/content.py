"""Content hashes, checks of file names, and the cache folder."""

import hashlib
import os
from pathlib import Path


def content_hash(path: Path) -> str | None:
    """SHA-256 of a file; of a folder, of the names and contents of all files in it; None if there is neither."""
    if os.path.isdir(path):  # unlike Path's, False for a name that no file can have
        digest = hashlib.sha256()
        for inner in sorted(inner for inner in path.rglob("*") if inner.is_file()):
            digest.update(f"{inner.relative_to(path)}\0{content_hash(inner)}\0".encode())
        return digest.hexdigest()
    if not os.path.isfile(path):
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_plain_name(name: str) -> bool:
    """Whether a name is a file name without a path, so that it cannot lead out of its folder."""
    return Path(name).name == name and name not in ("", "..") and "\0" not in name


def is_inner_path(name: str) -> bool:
    """Whether a name is that of a file in a folder or in one of its subfolders, so that it cannot lead out of it."""
    return all(map(is_plain_name, name.split("/")))


def cache_folder() -> Path:
    """The folder of cached files: SAFESPAN_CACHE, or `safespan` in the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("SAFESPAN_CACHE") or home / "safespan")
