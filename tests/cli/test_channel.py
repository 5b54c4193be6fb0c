"""What parent and children say to each other."""

import socket
from pathlib import Path

from millstream.config import Config, Secret
from millstream.config.schema import DatabaseConfig, LogConfig, LogFilter, LogLevel, SecurityConfig
from millstream.serving.channel import Channel, Orders, Ready


async def _pair() -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair()
    return await Channel.over(ours), await Channel.over(theirs)


async def test_settings_arrive_as_they_were_secrets_included() -> None:
    parent, child = await _pair()
    config = Config(
        database=DatabaseConfig(url=Secret("postgresql://u:p@h/d"), data_dir=Path("/srv/data")),
        security=SecurityConfig(admin_api_key=Secret("")),
        log=LogConfig(level=LogFilter(targets=(("millstream", LogLevel.DEBUG),))),
    )
    orders = Orders(config=config, dsn="postgresql:///x", socket_fds=[3, 4])
    parent.send(orders)
    assert await child.receive() == orders
    await parent.close()
    await child.close()


async def test_the_end_of_the_peer_is_noticed() -> None:
    parent, child = await _pair()
    parent.send(Ready())
    await parent.close()
    assert await child.receive() == Ready()
    assert await child.receive() is None
    await child.close()
