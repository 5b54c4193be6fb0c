"""`credentials.json`: how programs on this machine find a data directory's server and its first keys."""

import os
from pathlib import Path

import msgspec

from millstream.app import FirstCredentials

NAME = "credentials.json"
# The keys exist only here once the database has their hashes, so they are kept from the moment they are made; the
# file that others read appears when the server answers.
_KEPT_NAME = ".credentials.kept.json"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds. URLs are those of the last start, keys those of the first."""

    organization_id: str | None = None
    api_key: str | None = None
    admin_key: str | None = None
    url: str | None = None
    grpc_url: str | None = None
    metrics_url: str | None = None


def credentials_of(first: FirstCredentials) -> Credentials:
    """Return what the file will hold of the keys that a first start or migration made."""
    return Credentials(
        organization_id=first.organization_id, api_key=first.api_key, admin_key=first.admin_key
    )


def find_credentials(data_dir: Path) -> Credentials | None:
    """Return what the server of `data_dir` published; None if it never did, or not for this user's eyes."""
    return _read(data_dir / NAME)


def keep_keys(data_dir: Path, first: Credentials) -> None:
    """Store newly made keys so that a crash before `publish` does not lose them."""
    _write(data_dir / _KEPT_NAME, first)


def publish(data_dir: Path, *, url: str, metrics_url: str, grpc_url: str | None) -> Credentials:
    """Write the file for a server that answers at these URLs: mode 0600, replaced in one step."""
    kept = _read(data_dir / _KEPT_NAME) or _read(data_dir / NAME) or Credentials()
    published = msgspec.structs.replace(kept, url=url, metrics_url=metrics_url, grpc_url=grpc_url)
    _write(data_dir / NAME, published)
    (data_dir / _KEPT_NAME).unlink(missing_ok=True)
    return published


def _read(path: Path) -> Credentials | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except (FileNotFoundError, NotADirectoryError, PermissionError, msgspec.DecodeError):
        return None


def _write(path: Path, credentials: Credentials) -> None:
    text = msgspec.json.format(msgspec.json.encode(credentials), indent=2) + b"\n"
    # Two servers of one directory may write at once; each fills a file of its own.
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
