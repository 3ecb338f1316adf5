"""TCP keep-alive: the kernel finds out that the other end of a connection is gone, after about a minute."""

from __future__ import annotations

import asyncio
import socket

# Seconds without traffic, seconds between probes, and probes without an answer. macOS calls the first TCP_KEEPALIVE.
_OPTIONS = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


def keep_alive(transport: asyncio.BaseTransport, *, unanswered_seconds: int | None = None) -> None:
    """Have a connection that is lost closed, where the system can; does nothing for a socket that is not TCP.

    With `unanswered_seconds` it is closed, too, when what was sent is not acknowledged for so long: not for a peer that
    may read slowly.
    """
    ours = transport.get_extra_info("socket")
    if ours is None or ours.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options = dict(_OPTIONS)
    if unanswered_seconds is not None:
        options["TCP_USER_TIMEOUT"] = unanswered_seconds * 1000
    with socket.fromfd(ours.fileno(), ours.family, ours.type) as same:  # uvloop's own object takes no options
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                same.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
