"""Contract: spooled-tenancy 3.1, 3.8, 3.9, 6.2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.domain.slug import alternatives, is_valid_admin_slug, is_valid_slug, slug_of


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Acme Corp", "acme-corp"),
        ("  Acme \t Corp  ", "acme-corp"),
        ("Müller & Söhne", "mller-shne"),
        ("24 hours", "org-24-hours"),
        ("AB", "org-ab"),
        ("🚀🚀", "org"),
        ("--a--b--", "a-b"),
        ("Admin", "admin-org"),
        ("x" * 100, "x" * 50),
        ("x" * 49 + "-y", "x" * 49),
    ],
)
def test_a_name_makes_a_slug_that_resembles_it(name: str, slug: str) -> None:
    assert slug_of(name) == slug


@given(st.text(max_size=100))
def test_whatever_the_name_the_slug_is_valid(name: str) -> None:
    assert is_valid_slug(slug_of(name))


@given(st.from_regex(r"[a-z]([a-z0-9]|-[a-z0-9]){2,40}", fullmatch=True).filter(is_valid_slug))
def test_alternatives_are_valid_and_differ(slug: str) -> None:
    found = alternatives(slug, "0a1b2c3d")
    assert found[0] == slug
    assert all(is_valid_slug(other) for other in found)
    assert len(set(found)) == len(found)


def test_an_administrator_is_bound_to_less() -> None:
    for slug in ("1abc", "a--b", "admin", "abc"):
        assert is_valid_admin_slug(slug)
    for slug in ("ab", "-abc", "abc-", "Abc", "a_b", "a b", "аbc", "s" * 51, "abc\n"):
        assert not is_valid_admin_slug(slug)
