"""Slugs: which ones are valid, and how one is made of a name. Contract: spooled-tenancy 3.1, 3.8, 3.9, 6.2."""

import re

from millstream.domain import limits

RESERVED_SLUGS = frozenset(
    "admin api app auth dashboard docs help internal login logout metrics root settings signup status support system "
    "test www".split()
)
SLUG_RULE = (
    "must have 3 to 50 lower-case letters and digits in groups joined by '-', start with a letter "
    "and not be reserved"
)
ADMIN_SLUG_RULE = "must have 3 to 50 lower-case letters, digits and '-', neither first nor last a '-'"

_SLUG = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_ADMIN_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_FILLER = "org"
_NUMBERED_MAX = 9


def is_valid_slug(slug: str) -> bool:
    """Tell whether `slug` has 3 to 50 characters in hyphenated groups and is not reserved."""
    return _has_length(slug) and _SLUG.fullmatch(slug) is not None and slug not in RESERVED_SLUGS


def is_valid_admin_slug(slug: str) -> bool:
    """Tell whether an administrator may give `slug`, who is bound to less."""
    return _has_length(slug) and _ADMIN_SLUG.fullmatch(slug) is not None


def slug_of(name: str) -> str:
    """Return a valid slug that resembles `name`, whatever characters it has."""
    words = re.sub(r"[^a-z0-9-]", "", re.sub(r"\s+", "-", name.lower()))
    slug = re.sub(r"-{2,}", "-", words).strip("-")
    if not slug:
        slug = _FILLER
    elif not slug[0].isalpha() or len(slug) < limits.SLUG_CHARS_MIN:
        slug = f"{_FILLER}-{slug}"
    slug = slug[: limits.SLUG_CHARS_MAX].rstrip("-")
    return suffixed(slug, _FILLER) if slug in RESERVED_SLUGS else slug


def alternatives(slug: str, last: str) -> list[str]:
    """Return valid slugs like `slug`, itself first; `last` is the suffix of the last one."""
    suffixes = [*(str(number) for number in range(2, _NUMBERED_MAX + 1)), last]
    return [slug, *(suffixed(slug, suffix) for suffix in suffixes)]


def suffixed(slug: str, suffix: str) -> str:
    """Return `slug` with a suffix, cut so that it is not too long."""
    head = slug[: limits.SLUG_CHARS_MAX - len(suffix) - 1].rstrip("-")
    return f"{head}-{suffix}"


def _has_length(slug: str) -> bool:
    return limits.SLUG_CHARS_MIN <= len(slug) <= limits.SLUG_CHARS_MAX
