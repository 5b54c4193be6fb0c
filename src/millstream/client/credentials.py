"""The file in which a local server leaves its addresses and first keys."""

from pathlib import Path

import msgspec

from millstream.client.errors import MillstreamError


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What `credentials.json` in a server's data directory says. Keys that it lacks are None."""

    url: str | None = None
    api_key: str | None = None
    admin_key: str | None = None
    tenant_id: str | None = msgspec.field(name="organization_id", default=None)
    grpc_url: str | None = None
    metrics_url: str | None = None

    @classmethod
    def load(cls, path: str | Path) -> "Credentials":
        """Read `path`: the file itself, or the data directory that holds `credentials.json`.

        Raises FileNotFoundError, PermissionError, or MillstreamError when the file is not that JSON.
        """
        file = Path(path)
        if file.is_dir():
            file = file / "credentials.json"
        try:
            return msgspec.json.decode(file.read_bytes(), type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MillstreamError(f"{file} is no credentials file: {error}") from error
