"""A table with one row per number, to see what survives."""

import asyncpg

from millstream.embedded import EmbeddedServer


async def write_number(dsn: str, number: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("create table if not exists numbers (number int primary key)")
        await connection.execute("insert into numbers values ($1)", number)
    finally:
        await connection.close()


async def read_numbers(server: EmbeddedServer) -> list[int]:
    return [row["number"] for row in await read(server, "select number from numbers order by number")]


async def read_value(server: EmbeddedServer, query: str) -> object:
    return (await read(server, query))[0][0]


async def read(server: EmbeddedServer, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(server.dsn())
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()
