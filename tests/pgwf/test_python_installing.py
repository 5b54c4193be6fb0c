"""Installing over every source of connections."""

import secrets

import psycopg
import pytest

from millstream.pgwf import (
    AsyncInstaller,
    InstallError,
    InvalidArgument,
    JobDependencies,
    VerifyError,
    Workflow,
)
from tests.pgwf.callers import SOURCES, installer_for, open_source, settled
from tests.pgwf.flow import Flow


@pytest.mark.parametrize("kind", SOURCES)
async def test_the_schema_is_installed_and_verified_over_every_source(kind: str, shared_dsn: str) -> None:
    name = f"flow_{secrets.token_hex(6)}"
    async with open_source(kind, shared_dsn) as source:
        installer = installer_for(kind, source, name)
        with pytest.raises(VerifyError) as nothing:
            await settled(installer.verify())
        assert f"{name}.jobs" in nothing.value.missing
        await settled(installer.apply())
        await settled(installer.verify())
        with pytest.raises(InstallError, match="no_such_role") as refused:
            await settled(installer.grant("no_such_role"))
        assert refused.value.sqlstate == "42704"
        await settled(installer.apply())
    with psycopg.connect(shared_dsn) as connection:
        found = connection.execute("select to_regclass(%s) is not null", [f"{name}.jobs"]).fetchone()
        assert found == (True,)
        assert Workflow(schema=name).submit_job(connection, "a", JobDependencies("cap"), "w").job_id == "a"


@pytest.mark.parametrize("kind", ["dsn", "async pool"])
async def test_a_role_that_was_granted_the_schema_works_but_does_not_switch(kind: str, flow: Flow) -> None:
    role = f'worker "{secrets.token_hex(4)}"'
    quoted = '"' + role.replace('"', '""') + '"'
    flow.rows(f"create role {quoted}")
    async with open_source(kind, flow.dsn) as source:
        installer = installer_for(kind, source, flow.schema)
        await settled(installer.grant(role))
        for wrong in ("", "a\0"):
            with pytest.raises(InvalidArgument):
                await settled(installer.grant(wrong))
    workflow = Workflow(schema=flow.schema)
    with psycopg.connect(flow.dsn, autocommit=True) as connection:
        connection.execute(f"set role {quoted}".encode())
        workflow.submit_job(connection, "a", JobDependencies("cap"), "w")
        lease = workflow.get_work(connection, "w", ["cap"])
        assert lease is not None
        lease.extend(connection, 5)
        lease.complete(connection)
        assert len(workflow.job_trace(connection, "a")) == 4
        assert workflow.list_jobs(connection) == []
        assert workflow.purge_trace(connection, before=lease.lease_expires_at) == 4
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            workflow.set_trace(connection, False)
    assert flow.archived() == ["a"]


async def test_what_is_no_source_is_refused(flow: Flow) -> None:
    for wrong in (None, 3, flow.connection):
        with pytest.raises(TypeError, match="does not hand out connections"):
            AsyncInstaller(wrong)
