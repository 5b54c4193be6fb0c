"""Runs a statement and says what is wrong with it in the words of this package."""

from typing import TypeVar

from millstream import drivers
from millstream.pgwf.classification import classified
from millstream.pgwf.statements.statement import Statement

T = TypeVar("T")


def run(connection: object, statement: Statement[T], *, savepoint: bool = False) -> T:
    """Run a statement on anybody's connection. Raises WorkflowError, or what the driver raises."""
    try:
        if savepoint:
            with drivers.savepoint(connection):
                rows = drivers.execute(connection, statement.sql, statement.parameters)
        else:
            rows = drivers.execute(connection, statement.sql, statement.parameters)
    except Exception as error:
        refusal = classified(error, statement.job_id)
        if refusal is None:
            raise
        raise refusal from error
    return statement.decode(rows)
