"""Connections between processes: messages of one line, bytes that are passed on, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from typing import Any

from jaxws.system.text import one_line

Message = dict[str, Any]

# The other end is lost after three probes without an answer.
_PROBE_SECONDS = 5


async def receive(reader: asyncio.StreamReader) -> Message:
    """Waits for a message.

    Args:
      reader: of the connection.

    Returns:
      The message.

    Raises:
      OSError: the connection has ended.
      ValueError: this is no message.
    """
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the connection has ended")
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("no message")
    return message


async def send(writer: asyncio.StreamWriter, message: Message) -> None:
    """Sends a message.

    Args:
      writer: of the connection.
      message: for JSON.

    Raises:
      OSError: the connection has ended.
    """
    writer.write(json.dumps(message).encode() + b"\n")
    await writer.drain()


async def pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, closes: bool = True
) -> None:
    """Passes bytes on until there are no more.

    Args:
      reader: where they come from.
      writer: where they go.
      closes: whether the other side is told of their end.
    """
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    if closes:
        writer.close()


def probe(writer: asyncio.StreamWriter) -> None:
    """Has the system find out whether the other end still answers.

    Args:
      writer: of the connection.
    """
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    settings = {
        "TCP_KEEPIDLE": _PROBE_SECONDS,
        "TCP_KEEPALIVE": _PROBE_SECONDS,  # macOS calls it so
        "TCP_KEEPINTVL": _PROBE_SECONDS,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 4 * _PROBE_SECONDS * 1000,  # for what was sent; in milliseconds
    }
    for name, value in settings.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def cause(error: OSError) -> str:
    """Why a connection cannot be made.

    Args:
      error: that says so.

    Returns:
      A phrase.

    Example:
      >>> cause(ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"))
      'Connection refused'
    """
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)  # asyncio writes its own sentences
    return one_line(error.strerror or error)
