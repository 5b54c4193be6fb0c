"""What is compared with a secret is compared in one time, whatever it is. Contract: spooled-tenancy 19.2 (B5), 19.9 (I4).

How long a comparison takes is lost in the noise of any machine that runs tests. What can be seen is how it is made:
every guess, however long and wherever it differs, is one call of the comparison that does not stop at the first
difference, over two texts of one length.
"""

import ast
import asyncio
import hmac
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from limits import RateLimitItemPerMinute

from millstream.config import Secret
from millstream.domain.ingest import is_signed_by_github, is_webhook_token
from millstream.engine.admin_access import AdminAccess, digest_of

KEY = "k7Qm2vX9pL4wR8sT"
GUESSES = ["", "x", KEY[:-1], f"x{KEY[1:]}", f"{KEY[:-1]}x", f"{KEY}x", KEY.swapcase(), KEY * 100, "ключ"]
SOURCE = Path(__file__).parents[2] / "src" / "millstream"

Check = Callable[[str], bool]


def _admin_key(guess: str) -> bool:
    access = AdminAccess(digest_of(KEY.encode()), RateLimitItemPerMinute(1_000))
    return asyncio.run(access.is_admin(guess.encode(), "192.0.2.1"))


def _secret_setting(guess: str) -> bool:
    return Secret(KEY).matches(guess)


def _webhook_token(guess: str) -> bool:
    return is_webhook_token(guess.encode(), KEY)


def _signature(guess: str) -> bool:
    # A signature has one length: it is the key that is guessed.
    header = b"sha256=" + hmac.new(guess.encode(), b"body", sha256).hexdigest().encode()
    return is_signed_by_github(header, b"body", KEY)


@pytest.mark.parametrize("check", [_admin_key, _secret_setting, _webhook_token, _signature])
def test_every_guess_is_compared_once_and_whole(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    assert check(KEY)
    for guess in GUESSES:
        assert not check(guess), guess
    assert len(compared) == 1 + len(GUESSES)
    assert len({*compared}) == 1
    assert compared[0][0] == compared[0][1]


@pytest.mark.parametrize(
    ("module", "what"),
    [
        ("engine/admin_access.py", "the admin key"),
        ("config/secret.py", "secrets of the settings, the token of the metrics port among them"),
        ("api/http/health.py", "the token of the metrics"),
        ("domain/ingest.py", "webhook tokens and signatures"),
        ("engine/sign_ins.py", "codes sent by e-mail"),
    ],
)
def test_each_secret_has_its_comparison(module: str, what: str) -> None:
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse((SOURCE / module).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert "compare_digest" in calls, what
