"""A bucket of Google Cloud Storage on this machine: of its JSON API, what TensorStore asks for.

It stands in for the real service in tests. Objects have generations, and writes and deletions can
be made to depend on them, as there; a request can be made to fail.
"""

import base64
import hashlib
import json
import pathlib
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "bucket"


class Bucket:
    """Objects by name, each with its generation; and what is done about a request.

    Attributes:
      objects: contents and generations.
      changes: names and contents as they were written, None where an object was removed.
      requests: method and name of all requests so far.
      machine: what stands for the cache of the machine that this process is on.
      fails: given method and name, the HTTP status that a request ends with; 0 if it succeeds.
    """

    def __init__(self):
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.changes: list[tuple[str, bytes | None]] = []
        self.machine = pathlib.Path()
        self.requests: list[tuple[str, str]] = []
        self.fails: Callable[[str, str], int] = lambda method, name: 0
        self.lock = threading.RLock()
        self._generation = 1000

    def put(self, name: str, content: bytes) -> int:
        with self.lock:
            self._generation += 1
            self.objects[name] = content, self._generation
            self.changes.append((name, content))
            return self._generation

    def remove(self, name: str) -> bool:
        with self.lock:
            self.changes.append((name, None))
            return self.objects.pop(name, None) is not None

    def text(self, name: str) -> str:
        return self.objects[name][0].decode()

    def names(self, prefix: str = "") -> list[str]:
        with self.lock:
            return sorted(name for name in self.objects if name.startswith(prefix))

    def resource(self, name: str) -> dict[str, str]:
        content, generation = self.objects[name]
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": NAME,
            "generation": str(generation),
            "metageneration": "1",
            "size": str(len(content)),
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "updated": "2026-01-01T00:00:00.000Z",
            "storageClass": "STANDARD",
            "etag": str(generation),
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet: the next one would wait for it to be acknowledged
    bucket: Bucket

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._answer("GET")

    def do_POST(self):
        self._answer("POST")

    def do_DELETE(self):
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        _, _, name = url.path.partition(f"/b/{NAME}/o/")
        name = urllib.parse.unquote(name) or query.get("name", "")
        bucket = self.bucket
        with bucket.lock:
            bucket.requests.append((method, name))
            if status := bucket.fails(method, name):
                return self._send(status, b"refused")
            if method == "POST":
                return self._write(name, query, body)
            if method == "DELETE":
                return self._delete(name, query)
            if not name:
                return self._list(query)
            return self._read(name, query)

    def _write(self, name, query, body):
        if not self._matches(name, query):
            return self._send(412, b"precondition")
        self.bucket.put(name, body)
        self._json(self.bucket.resource(name))

    def _delete(self, name, query):
        if not self._matches(name, query):
            return self._send(412, b"precondition")
        self._send(204 if self.bucket.remove(name) else 404)

    def _read(self, name, query):
        if name not in self.bucket.objects:
            return self._send(404, b"no such object")
        if query.get("ifGenerationNotMatch") == str(self.bucket.objects[name][1]):
            return self._send(304)
        if query.get("alt") != "media":
            return self._json(self.bucket.resource(name))
        content, generation = self.bucket.objects[name]
        headers = {"x-goog-generation": str(generation)}
        if (asked := self.headers.get("Range", "")).startswith("bytes="):
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first = int(begin) if begin else max(len(content) - int(end), 0)
            stop = int(end) + 1 if begin and end else len(content)
            part = content[first:stop]
            headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
            return self._send(206, part, headers)
        self._send(200, content, headers)

    def _list(self, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        names, prefixes = [], set()
        for name in self.bucket.names(prefix):
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                prefixes.add(prefix + rest.partition(delimiter)[0] + delimiter)
            elif query.get("startOffset", "") <= name < query.get("endOffset", "\U0010ffff"):
                names.append(name)
        items = [self.bucket.resource(name) for name in names]
        self._json({"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})

    def _matches(self, name, query) -> bool:
        wanted = query.get("ifGenerationMatch")
        there = self.bucket.objects.get(name, (b"", 0))[1]
        return wanted is None or int(wanted) == there

    def _json(self, value):
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status, body=b"", headers=()):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(body)


@contextmanager
def served() -> Iterator[tuple[Bucket, str]]:
    """Serves an empty bucket; gives it and the address."""
    bucket = Bucket()
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
    thread.start()
    try:
        yield bucket, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
