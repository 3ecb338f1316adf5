"""The kernel is asked to watch TCP connections, and no others."""

from __future__ import annotations

import asyncio
import socket

import pytest

from zora_core.keep_alive import keep_alive


@pytest.mark.parametrize("unanswered", [None, 20])
async def test_a_tcp_connection_is_watched(unanswered: int | None) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        used = writer.get_extra_info("socket")
        before = used.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        keep_alive(writer.transport, unanswered_seconds=unanswered)
        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        expected = before if unanswered is None else 20_000
        assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == expected
        writer.close()
        await writer.wait_closed()


async def test_a_unix_socket_is_left_as_it_is() -> None:
    one, other = socket.socketpair()
    with one:
        _, writer = await asyncio.open_connection(sock=other)
        keep_alive(writer.transport, unanswered_seconds=20)
        writer.close()
        await writer.wait_closed()
