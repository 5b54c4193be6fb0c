"""The script that installs the schema, under a name of the caller's choice. Contract: pgwf 1.1, 1.13."""

import re
from functools import lru_cache
from importlib import resources

from millstream.pgwf.errors import InvalidArgument

DEFAULT_SCHEMA = "pgwf"
_SCHEMA_NAME = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,39}")
_GRANTS = """
grant usage on schema pgwf to {role};
grant select, insert, update, delete on pgwf.jobs, pgwf.jobs_archive, pgwf.jobs_trace to {role};
grant select on pgwf.jobs_with_status, pgwf.jobs_friendly_status, pgwf.settings to {role};
grant usage on sequence pgwf.jobs_trace_id_seq to {role};
grant execute on all functions in schema pgwf to {role};
"""


def require_schema_name(name: object) -> str:
    """Return `name` if a schema may have it without quotes: 1 to 40 characters of `[a-z0-9_]`, no digit first,
    not beginning with `pg_`. Raises InvalidArgument.
    """
    if not isinstance(name, str) or not _SCHEMA_NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name!r} is no schema name for this: 1 to 40 of a-z, 0-9 and _, no digit first, not pg_…"
        )
    return name


def render(schema: str = DEFAULT_SCHEMA) -> str:
    """Return the whole script for `schema`, a transaction of its own. Raises InvalidArgument."""
    return _rendered("pgwf.sql", schema)


def render_body(schema: str = DEFAULT_SCHEMA) -> str:
    """Return the script without its `begin` and `commit`, for whoever has a transaction. Raises InvalidArgument."""
    return re.sub(r"^(?:begin|commit);$", "", render(schema), flags=re.MULTILINE)


def render_verification(schema: str = DEFAULT_SCHEMA) -> str:
    """Return a query for the names of what an installation lacks. Raises InvalidArgument."""
    return _rendered("verify.sql", schema)


def render_settings_check(schema: str = DEFAULT_SCHEMA) -> str:
    """Return a query with one row where the switches are there. Raises InvalidArgument."""
    return renamed("select only_row from pgwf.settings", schema)


def render_grants(schema: str, role: str) -> str:
    """Return what gives a role (as an identifier, quoted where it has to be) the schema. Raises InvalidArgument."""
    return renamed(_GRANTS, schema).format(role=role)


@lru_cache(maxsize=512)
def renamed(text: str, schema: str) -> str:
    """Return `text`, written for the default schema, for `schema`. Raises InvalidArgument."""
    return text.replace(DEFAULT_SCHEMA, require_schema_name(schema))


def _rendered(file: str, schema: str) -> str:
    return renamed((resources.files("millstream.pgwf") / file).read_text(encoding="ascii"), schema)
