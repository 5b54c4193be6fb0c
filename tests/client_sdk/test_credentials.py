from pathlib import Path

import pytest

from millstream import Credentials, MillstreamError


def test_the_file_and_its_directory_read_the_same(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text('{"organization_id":"t-1","api_key":"sk_live_a","url":"http://127.0.0.1:1","new":1}')

    assert Credentials.load(tmp_path) == Credentials.load(file)
    assert Credentials.load(file) == Credentials(
        tenant_id="t-1", api_key="sk_live_a", url="http://127.0.0.1:1", admin_key=None
    )


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Credentials.load(tmp_path)


def test_a_file_that_is_no_json_says_so(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_bytes(b"\xff{")

    with pytest.raises(MillstreamError, match="no credentials file"):
        Credentials.load(tmp_path)
