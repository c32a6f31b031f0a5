"""Downloads from servers on this machine that do not send what was asked for."""

import contextlib
import errno
import hashlib
import http.server
import os
import re
import socket
import threading

import pytest

from jaxws.data.sources import answers
from jaxws.data.sources import download as module
from jaxws.data.sources.answers import redirected
from jaxws.data.sources.download import download
from jaxws.data.sources.official import OFFICIAL, Archive
from jaxws.system.locks import lock

CONTENT = bytes(range(256)) * 40
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
PAGE = b"\n<!DOCTYPE html>\n<html>Log in</html>" + b" " * len(CONTENT)


def answer(handler, status=200, body=b"", **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    with contextlib.suppress(OSError):  # the client has enough of it
        handler.wfile.write(body)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request as `reply` says, and keeps the range that was asked for."""

    reply, ranges = None, []

    def do_GET(self):
        self.ranges.append(self.headers["Range"])
        assert self.headers["Accept-Encoding"] == "identity"
        type(self).reply(self)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/a.zip"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def archive(server):
    Handler.ranges.clear()
    return Archive("a.zip", len(CONTENT), DIGEST, server)


def whole(handler):
    answer(handler, 200, CONTENT, Content_Length=len(CONTENT))


def endless(handler, status=200, **headers):
    with contextlib.suppress(OSError):
        answer(handler, status, **headers)
        while True:
            handler.wfile.write(b"x" * len(CONTENT))


def redirect(target):
    return lambda handler: answer(handler, 302, Location=target, Content_Length=0)


REFUSED = {
    "larger": (
        lambda h: answer(h, 200, CONTENT, Content_Length=10**13),
        "has 10000000000000 bytes, expected 10240 for the official a.zip: it is another file",
    ),
    "smaller": (lambda h: answer(h, 200, b"x", Content_Length=1), "has 1 bytes, expected 10240"),
    "a page": (
        lambda h: answer(h, 200, PAGE, Content_Type="text/html; charset=utf-8"),
        "answers with a web page, as networks do that want a login first",
    ),
    "a page of that size": (
        lambda h: answer(h, 200, PAGE[: len(CONTENT)], Content_Length=len(CONTENT)),
        "answers with a web page",
    ),
    "a page without a type": (lambda h: answer(h, 200, PAGE), "answers with a web page"),
    "a page with a comment": (lambda h: answer(h, 200, b"<!-- x --><html>"), "with a web page"),
    "XML": (lambda h: answer(h, 200, b"\xef\xbb\xbf<?xml?><html>"), "answers with a web page"),
    "JSON": (
        lambda h: answer(h, 200, b'{"error": "quota"}', Content_Type="application/json"),
        "answers with a web page",
    ),
    "not there": (lambda h: answer(h, 404, b"no"), "cannot be downloaded (404 Not Found)"),
    "nothing": (answer, "cannot be downloaded (ConnectionError)"),
    "no HTTP": (lambda h: h.wfile.write(b"hello\n"), "cannot be downloaded (ConnectionError)"),
    "endless": (endless, "a.zip.part has sha256"),
    "to a file": (
        redirect("file:///etc/passwd"),
        "to 'file:///etc/passwd', which is not",
    ),
    "to ftp": (redirect("ftp://127.0.0.1/a.zip"), "redirects to 'ftp://127.0.0.1/a.zip'"),
    "to data": (redirect("data:text/plain,x"), "redirects to 'data:text/plain,x'"),
    "without end": (
        lambda h: endless(h, 302, Location="http://[", Content_Length=10**13),
        "redirects to 'http://[', which is not",
    ),
    "an error without end": (lambda h: endless(h, 500), "cannot be downloaded (500 Internal"),
    "in circles": (redirect("/a.zip"), "cannot be downloaded (TooManyRedirects)"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("before", [b"", CONTENT[:1000]], ids=["anew", "resumed"])
def test_anything_else_is_one_line_and_not_kept(archive, tmp_path, monkeypatch, case, before):
    reply, message = REFUSED[case]
    monkeypatch.setattr(Handler, "reply", reply)
    if before:
        (tmp_path / "a.zip.part").write_bytes(before)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        download(archive, tmp_path)
    assert "\n" not in str(caught.value)
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left == ({"a.zip.part": before} if before and case != "endless" else {})
    monkeypatch.setattr(Handler, "reply", whole)
    assert download(archive, tmp_path).read_bytes() == CONTENT


def test_a_redirect_does_not_leave_https():
    for target in ("http://host/a.zip", "HTTP://host/a.zip", "file:/etc/passwd", "http://[", "x:"):
        with pytest.raises(ValueError, match=r"redirects to '.*', which is not followed"):
            redirected("https://host/a.zip", target)
    assert redirected("https://host/a.zip", "//other/b") == "https://other/b"
    assert redirected("http://host/a.zip", "https://host/a.zip") == "https://host/a.zip"
    urls = [archive.url for facts in OFFICIAL.values() for archive in facts.archives]
    assert (
        len([url for url in urls if url.startswith("https://")])
        == 3
        == len(list(filter(None, urls)))
    )


def cut_off(handler):
    answer(handler, 200, CONTENT[:5000], Content_Length=len(CONTENT))


def ended(handler):
    answer(handler, 200, CONTENT[:5000])


@pytest.mark.parametrize("reply", [cut_off, ended])
def test_what_was_sent_of_an_answer_that_broke_off_is_kept(archive, tmp_path, monkeypatch, reply):
    monkeypatch.setattr(Handler, "reply", reply)
    with pytest.raises(ValueError, match="run the same command again to go on"):
        download(archive, tmp_path)
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:5000]


def from_elsewhere(handler):
    if handler.headers["Range"]:
        answer(handler, 206, CONTENT[7:], Content_Range=f"bytes 7-10239/{len(CONTENT)}")
    else:
        whole(handler)


def too_far(handler):
    answer(handler, 416) if handler.headers["Range"] else whole(handler)


@pytest.mark.parametrize("reply", [from_elsewhere, too_far, whole])
def test_a_server_that_cannot_go_on_is_asked_for_all(archive, tmp_path, monkeypatch, reply):
    monkeypatch.setattr(Handler, "reply", reply)
    (tmp_path / "a.zip.part").write_bytes(b"another file" * 100)
    assert download(archive, tmp_path).read_bytes() == CONTENT
    assert Handler.ranges == ["bytes=1200-", None][: 1 if reply is whole else 2]


def test_a_part_that_is_too_large_is_dropped(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(Handler, "reply", whole)
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"x")
    assert download(archive, tmp_path).read_bytes() == CONTENT and Handler.ranges == [None]


def test_compression_on_the_way_is_not_undone(archive, tmp_path, monkeypatch):
    """Servers call a .tar.gz so, and what would come of undoing it has no bound."""
    monkeypatch.setattr(
        Handler, "reply", lambda h: answer(h, 200, CONTENT, Content_Encoding="x-gzip")
    )
    assert download(archive, tmp_path).read_bytes() == CONTENT


def test_a_server_that_stalls_is_given_up(archive, tmp_path, monkeypatch):
    gone = threading.Event()

    def drip(handler):
        answer(handler, 200, CONTENT[:10], Content_Length=len(CONTENT))
        with contextlib.suppress(OSError):
            while not gone.wait(0.01):
                handler.wfile.write(b"x")

    def silent(handler):
        answer(handler, 200, CONTENT[:10], Content_Length=len(CONTENT))
        gone.wait(5)

    monkeypatch.setattr(answers, "_WINDOW", 0.1)
    monkeypatch.setattr(answers, "_SLOWEST", 10**6)
    monkeypatch.setattr(answers, "_TIMEOUT", 0.3)
    for reply, error in ((drip, "Timeout"), (silent, "ReadTimeoutError")):
        monkeypatch.setattr(Handler, "reply", reply)
        with pytest.raises(ValueError, match=rf"cannot be downloaded \({error}\): run the same"):
            download(archive, tmp_path)
    gone.set()
    assert (tmp_path / "a.zip.part").read_bytes()[:10] == CONTENT[:10]


def test_no_room_is_one_line_and_what_was_written_stays(archive, tmp_path, monkeypatch):
    def full(file, place, block):
        write(file, place, block[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write = module._write
    monkeypatch.setattr(Handler, "reply", whole)
    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(ValueError, match=r"cannot be written to .*No space left.*make room"):
        download(archive, tmp_path)
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:100]
    monkeypatch.undo()
    monkeypatch.setattr(Handler, "reply", whole)
    assert download(archive, tmp_path).read_bytes() == CONTENT


def test_a_damaged_archive_is_named_with_the_command_to_remove_it(archive, tmp_path):
    path = tmp_path / "it's here" / "a.zip"
    path.parent.mkdir()
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(ValueError, match=r"it is damaged.* remove it by `rm .*here/a\.zip'` and"):
        download(archive, path.parent)
    assert path.exists()


def test_a_part_is_written_by_one_process_and_not_through_a_link(archive, tmp_path):
    with lock(tmp_path / "a.zip.part"), pytest.raises(ValueError, match="by another process"):
        download(archive, tmp_path)
    (tmp_path / "a.zip.part").unlink()
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "a.zip.part").symlink_to(tmp_path / "victim")
    with pytest.raises(ValueError, match=r"a\.zip\.part is a link, which is not followed"):
        download(archive, tmp_path)
    assert (tmp_path / "victim").read_text() == "precious"


def test_no_network(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    archive = Archive("a.zip", 100, "", f"http://127.0.0.1:{port}/a.zip")
    with pytest.raises(ValueError, match=r"cannot be downloaded \(ConnectionError\).*--manual_dir"):
        download(archive, tmp_path)
    assert not list(tmp_path.iterdir())
