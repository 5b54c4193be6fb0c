"""Runs a statement and says what is wrong with it in the words of this package."""

from typing import TypeVar

from millstream import drivers
from millstream.pgwf.classification import classified
from millstream.pgwf.statements.statement import Statement

T = TypeVar("T")


async def run_async(connection: object, statement: Statement[T], *, savepoint: bool = False) -> T:
    """Run a statement on anybody's connection. Raises WorkflowError, or what the driver raises."""
    try:
        if savepoint:
            async with drivers.savepoint_async(connection):
                rows = await drivers.execute_async(connection, statement.sql, statement.parameters)
        else:
            rows = await drivers.execute_async(connection, statement.sql, statement.parameters)
    except Exception as error:
        refusal = classified(error, statement.job_id)
        if refusal is None:
            raise
        raise refusal from error
    return statement.decode(rows)
