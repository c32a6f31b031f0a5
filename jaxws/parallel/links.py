"""One connection of each process to process 0: who has come, who has failed, who is lost.

JAX's own client ends a process with a crash report of a screen as soon as process 0 is gone, after
minutes where another process is, and never says which. So that does not happen, its connections to
the coordination service run through ours: they arrive at the same port of process 0, and none of
them is cut while the program still has something to say.

A process that ends, however it ends, has its connection closed by the system at once. A machine
that is gone answers no probe of the system (TCP keepalive). Neither needs the interpreter of the
process that is watched, which may be compiling.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Coroutine
from typing import Any, NoReturn

from jaxws.parallel.launch import Cluster
from jaxws.system.text import one_line, say

# A process is lost after three probes without an answer.
_PROBE_SECONDS = 5
_RETRY_SECONDS = 0.3
_PATIENCE_SECONDS = 2.0  # before it is told who is waited for
_HELLO_SECONDS, _GOODBYE_SECONDS = 10.0, 20.0
LOST = 75  # the exit status where another process is lost: the same command goes on

Message = dict[str, Any]


class Ended(Exception):
    """Why this process cannot go on.

    Attributes:
      status: to exit with.
    """

    def __init__(self, line: str, status: int):
        """Says why, in one line."""
        super().__init__(line)
        self.status = status


class Links:
    """This process's part of the connections; all of it runs in a thread of its own."""

    def __init__(self, cluster: Cluster, timeout: float):
        """Connects nothing.

        Args:
          cluster: who is who.
          timeout: seconds to wait for the others.
        """
        self._cluster, self._timeout = cluster, timeout
        self._directory = tempfile.TemporaryDirectory(prefix="jaxws-", dir=_short_directory())
        self._service = os.path.join(self._directory.name, "coordinator")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._ending = threading.Lock()  # whoever takes it says why this process ends
        self._orderly = False
        self._peers: dict[int, asyncio.StreamWriter] = {}  # of process 0: all; elsewhere: {0: ...}
        self._gone: set[int] = set()
        self._changed = asyncio.Event()

    @property
    def service(self) -> str:
        """The address of the coordination service, for JAX in this process."""
        return f"unix:{self._service}"

    def open(self) -> None:
        """Waits until all processes have come.

        Raises:
          Ended: one has not, or comes with other numbers.
        """
        self._thread.start()
        try:
            self._call(self._gather() if self._cluster.index == 0 else self._join())
        except Ended:
            self._directory.cleanup()
            raise

    def fail(self, line: str, status: int) -> NoReturn:
        """Ends all processes.

        Args:
          line: why; gets the number of this process, unless it names one.
          status: to exit with.
        """
        line = one_line(line)
        if not re.match(r"process \d+\b", line):
            line = f"process {self._cluster.index}: {line}"
        self._ending.acquire()  # never given back; while another thread holds it, that one ends us
        with contextlib.suppress(Exception):
            self._call(self._tell_all({"error": line, "status": status}), timeout=5)
        self._exit(line, status)

    def close(self) -> None:
        """Ends the connections in order: the work is done here, and nobody else may need us."""
        with contextlib.suppress(Exception):
            self._call(self._leave(), timeout=2 * _GOODBYE_SECONDS)
        self._orderly = True
        self._directory.cleanup()

    def _call(self, work: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    # Process 0.

    async def _gather(self) -> None:
        """Opens the port, and waits for all others to come to it."""
        port = self._cluster.port
        try:
            await asyncio.start_server(self._visited, None, port, reuse_address=True)
        except OSError as error:
            raise Ended(f"port {port} cannot be opened: {_why(error)}", 2) from error
        await self._wait_for_all()
        for writer in self._peers.values():
            await _send(writer, {"go": True})

    def _missing(self) -> list[int]:
        return sorted(set(range(1, self._cluster.count)) - set(self._peers))

    async def _wait_for_all(self) -> None:
        """Waits until all have come, telling from time to time who has not."""
        begin, told = time.monotonic(), _PATIENCE_SECONDS
        while missing := self._missing():
            waited = time.monotonic() - begin
            if waited >= self._timeout:
                line = f"{_names(missing)} did not come within {self._timeout:.0f} s"
                await self._tell_all({"error": line, "status": 2})
                raise Ended(line, 2)
            if waited >= told:
                told = 2 * waited
                say(f"waiting for {_names(missing)} of {self._cluster.count}")
            await self._change(min(told, self._timeout) - waited)

    async def _change(self, seconds: float) -> None:
        """Waits until a process has come or gone, but no longer than this."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection to the port: of a process, or of its JAX to ours."""
        _probe(writer)
        try:
            hello = await asyncio.wait_for(_receive(reader), _HELLO_SECONDS)
            number, wants = int(hello["index"]), hello["wants"]
        except (TimeoutError, OSError, ValueError, KeyError, TypeError):
            writer.close()  # a stranger
            return
        if wants == "service":
            await self._serve(reader, writer)
            return
        if refusal := self._refusal(number, hello.get("count")):
            say(f"refused: {refusal}", error=True)
            await _send(writer, {"error": refusal, "status": 2})
            writer.close()
            return
        self._peers[number] = writer
        self._changed.set()
        await self._listen(number, reader)

    def _refusal(self, number: int, count: Any) -> str:
        if count != self._cluster.count:
            return (
                f"process {number} was started as one of {count} processes, process 0 as one of"
                f" {self._cluster.count}: give all the same number"
            )
        if number in self._peers:
            return f"two processes were started as number {number}: give each its own"
        return ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connects JAX of another process to the coordination service here."""
        while True:  # until JAX has started it
            try:
                inner = await asyncio.open_unix_connection(self._service)
                break
            except OSError:
                await asyncio.sleep(_RETRY_SECONDS / 10)
        await asyncio.gather(_pump(reader, inner[1]), _pump(inner[0], writer))

    # The others.

    async def _join(self) -> None:
        """Comes to process 0, and waits until it says that all have come."""
        begin, told = time.monotonic(), False
        while True:
            try:
                reader, writer = await self._connect("process")
                break
            except OSError as error:
                waited = time.monotonic() - begin
                where = f"process 0 at {self._cluster.address}"
                if waited >= self._timeout:
                    line = f"{where} did not answer within {self._timeout:.0f} s ({_why(error)})"
                    raise Ended(f"process {self._cluster.index}: {line}", 2) from error
                if waited >= _PATIENCE_SECONDS and not told:
                    told = True
                    say(f"process {self._cluster.index}: waiting for {where}", error=True)
                await asyncio.sleep(_RETRY_SECONDS)
        try:
            first = await _receive(reader)
        except (OSError, ValueError) as error:
            line = f"process 0 at {self._cluster.address} ended before all had come"
            raise Ended(line, 2) from error
        if "error" in first:
            raise Ended(one_line(first["error"]), int(first["status"]))
        self._peers[0] = writer
        await asyncio.start_unix_server(self._forward, self._service)
        self._task = asyncio.ensure_future(self._listen(0, reader))

    async def _connect(self, wants: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._cluster.host, self._cluster.port)
        _probe(writer)
        me = {"index": self._cluster.index, "count": self._cluster.count, "wants": wants}
        await _send(writer, me)
        return reader, writer

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connects JAX here to the service of process 0."""
        try:
            outer = await self._connect("service")
        except OSError:
            return  # process 0 is gone, which the other connection tells
        await asyncio.gather(_pump(reader, outer[1]), _pump(outer[0], writer, closes=False))

    # All.

    async def _listen(self, number: int, reader: asyncio.StreamReader) -> None:
        """Follows what another process says until it leaves, in order or not."""
        try:
            while "leaves" not in (message := await _receive(reader)):
                await self._end(message["error"], message["status"])
        except (OSError, ValueError):
            if not self._orderly:
                await self._end(
                    f"process {number} was lost: stopped; the same command, given to all processes,"
                    " goes on from the last checkpoint",
                    LOST,
                )
        self._gone.add(number)
        self._changed.set()

    async def _end(self, line: str, status: int) -> None:
        """Ends this process as another one has ended, after the rest has been told."""
        if self._ending.acquire(blocking=False):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._tell_all({"error": line, "status": status}), 5)
            self._exit(line, status)

    async def _tell_all(self, message: Message) -> None:
        """Sends to all; to none if this is not process 0, which passes it on."""
        for writer in self._peers.values():
            with contextlib.suppress(OSError):
                await _send(writer, message)

    async def _leave(self) -> None:
        """Says goodbye. Process 0 is the last to go."""
        self._orderly = True
        end = time.monotonic() + _GOODBYE_SECONDS
        while self._cluster.index == 0 and (left := end - time.monotonic()) > 0:
            if not set(self._peers) - self._gone:
                break
            await self._change(left)
        await self._tell_all({"leaves": True})

    def _exit(self, line: str, status: int) -> NoReturn:
        """Ends this process at once, whatever its other threads wait for."""
        if sys.stdout is not None and sys.stdout.isatty():
            os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # the cursor that a bar has hidden
        with contextlib.suppress(Exception):
            self._directory.cleanup()
        with contextlib.suppress(Exception):
            say(f"error: {line}", error=True)
            sys.stdout.flush()
        os._exit(status)


async def _receive(reader: asyncio.StreamReader) -> Message:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the connection has ended")
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("no message")
    return message


async def _send(writer: asyncio.StreamWriter, message: Message) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
    await writer.drain()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, closes: bool = True
) -> None:
    """Passes bytes on until there are no more."""
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    if closes:
        writer.close()


def _probe(writer: asyncio.StreamWriter) -> None:
    """Has the system find out whether the other end still answers."""
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


def _names(numbers: list[int]) -> str:
    """Processes, for people; not all of a thousand."""
    shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"process {shown}" if len(numbers) == 1 else f"processes {shown}"


def _why(error: OSError) -> str:
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)  # asyncio writes its own sentences
    return one_line(error.strerror or error)


def _short_directory() -> str | None:
    """Where sockets are made: their names have 104 bytes at most, also on macOS."""
    return None if len(os.fsencode(tempfile.gettempdir())) < 70 else "/tmp"
