"""`credentials.json`."""

import json
import stat
from pathlib import Path

from millstream.serving.credentials_file import Credentials, find_credentials, keep_keys, publish

FIRST = Credentials(organization_id="org", api_key="sk_live_a", admin_key="admin")


def _publish(directory: Path, port: int) -> None:
    publish(directory, url=f"http://127.0.0.1:{port}", metrics_url="http://127.0.0.1:9", grpc_url=None)


def test_kept_keys_are_not_visible_until_they_are_published(tmp_path: Path) -> None:
    keep_keys(tmp_path, FIRST)
    assert find_credentials(tmp_path) is None
    _publish(tmp_path, 1)
    found = find_credentials(tmp_path)
    assert found is not None
    assert (found.organization_id, found.api_key, found.admin_key) == ("org", "sk_live_a", "admin")
    assert [path.name for path in tmp_path.iterdir()] == ["credentials.json"]


def test_the_file_and_its_predecessor_are_for_the_owner_only(tmp_path: Path) -> None:
    keep_keys(tmp_path, FIRST)
    (kept,) = tmp_path.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    _publish(tmp_path, 1)
    assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600


def test_publishing_again_changes_the_urls_only(tmp_path: Path) -> None:
    keep_keys(tmp_path, FIRST)
    _publish(tmp_path, 1)
    _publish(tmp_path, 2)
    assert json.loads((tmp_path / "credentials.json").read_text()) == {
        "organization_id": "org",
        "api_key": "sk_live_a",
        "admin_key": "admin",
        "url": "http://127.0.0.1:2",
        "grpc_url": None,
        "metrics_url": "http://127.0.0.1:9",
    }


def test_a_directory_whose_keys_nobody_kept_still_gets_urls(tmp_path: Path) -> None:
    _publish(tmp_path, 3)
    found = find_credentials(tmp_path)
    assert found is not None
    assert (found.api_key, found.url) == (None, "http://127.0.0.1:3")
