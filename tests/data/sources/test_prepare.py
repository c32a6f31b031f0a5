"""`python -m jaxws prepare`, from a manual directory and from a server on this machine."""

import hashlib
import http.server
import logging
import re
import threading
from types import SimpleNamespace

import pytest

from jaxws.commands import prepare as command
from jaxws.data import load_dataset
from jaxws.data.sources.download import download
from jaxws.data.sources.official import OFFICIAL, Archive
from tests.support.damage import flip_bit, truncate
from tests.support.official_sets import data_config, run_prepare, write_archive

NAME = "cifar-10-binary.tar.gz"


@pytest.fixture
def manual(tmp_path, monkeypatch):
    """A directory with an archive of 50 + 20 images that passes for the official one."""
    directory = tmp_path / "manual"
    monkeypatch.setitem(OFFICIAL, "cifar10", write_archive("cifar10", directory))
    return directory


@pytest.fixture
def run(tmp_path, manual, capsys):
    """Runs the command; returns its status and what it said."""

    def call(*arguments):
        status = run_prepare(*(arguments or ("cifar10",)), f"--data_dir={tmp_path / 'tfds'}")
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_prepares_once_and_says_what_there_is(run, manual, tmp_path):
    status, out, _ = run("cifar10", f"--manual_dir={manual}")
    assert status == 0
    assert "train: 50 images" in out and "test: 20 images" in out and "warning" not in out
    flag = f"--config.data.data_dir={tmp_path / 'tfds'}"
    assert f"python -m jaxws train --config=cifar10_lc_ws1 {flag}" in out
    assert len(load_dataset(data_config("cifar10", tmp_path / "tfds")).train.labels) == 50
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "tfds").rglob("*") if p.is_file()}
    (manual / NAME).unlink()  # No longer needed.
    status, out, _ = run("cifar10", f"--manual_dir={manual}")
    assert status == 0 and "cifar10 has been prepared before" in out and "train: 50" in out
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_fewer_images_than_there_should_be_are_told(run, manual, tmp_path, monkeypatch, caplog):
    facts = OFFICIAL["cifar10"]._replace(images={"train": 51, "test": 20})
    monkeypatch.setitem(OFFICIAL, "cifar10", facts)
    _, out, _ = run("cifar10", f"--manual_dir={manual}")
    assert "warning: there are 50 of 51 images of split 'train'; for all of them" in out
    with caplog.at_level(logging.WARNING):  # In training too.
        load_dataset(data_config("cifar10", tmp_path / "tfds"))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("Data set 'cifar10' is a part: 50 of 51 images of split 'train' in /")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: flip_bit(path, 500),
            rf"{NAME} has sha256 \w+, expected \w+ for the official",
        ),
        (truncate, rf"{NAME} has \d+ bytes, expected \d+ .* truncated or another file"),
        (lambda path: path.unlink(), rf"has no {NAME}: download "),
    ],
    ids=["checksum", "size", "missing"],
)
def test_what_is_wrong_is_one_line_and_a_second_try_works(run, manual, tmp_path, damage, message):
    whole = (manual / NAME).read_bytes()
    damage(manual / NAME)
    status, _, err = run("cifar10", f"--manual_dir={manual}")
    assert status == 2 and len(err.strip().splitlines()) == 1
    assert err.startswith("error: ") and re.search(message, err)
    with pytest.raises(ValueError, match="python -m jaxws prepare cifar10"):
        load_dataset(data_config("cifar10", tmp_path / "tfds"))
    (manual / NAME).write_bytes(whole)
    assert run("cifar10", f"--manual_dir={manual}")[0] == 0


def test_no_room_is_told_before_anything_is_written(run, manual, tmp_path, monkeypatch):
    facts = OFFICIAL["cifar10"]._replace(disk_bytes=10**18)
    monkeypatch.setitem(OFFICIAL, "cifar10", facts)
    status, _, err = run("cifar10", f"--manual_dir={manual}")
    assert status == 2 and "needs about 1e+09 GB" in err and not (tmp_path / "tfds").exists()


@pytest.mark.parametrize("have", ["", ".part"])
def test_what_has_been_downloaded_needs_no_more_room(tmp_path, monkeypatch, have):
    facts = OFFICIAL["cifar10"]._replace(archives=(Archive("a.gz", 1000),), disk_bytes=10)
    monkeypatch.setattr(command.shutil, "disk_usage", lambda _: SimpleNamespace(free=60))
    with pytest.raises(ValueError, match=r"needs about 0\.00101 MB .* 6e-05 MB are free"):
        command._check_room("cifar10", facts, tmp_path, None)
    (tmp_path / "downloads" / "cifar10").mkdir(parents=True)
    (tmp_path / "downloads" / "cifar10" / f"a.gz{have}").write_bytes(
        bytes(1000 if not have else 950)
    )
    command._check_room("cifar10", facts, tmp_path, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cifar1",), "did you mean 'cifar10'?"),
        (("imagenet2012",), "register at https://image-net.org"),
        (("imagenet2012", "--manual_dir=/nowhere"), "/nowhere has no ILSVRC2012_img_train.tar"),
        (("cifar10", "--nonsense"), "--nonsense"),
    ],
)
def test_mistakes(run, arguments, message):
    status, _, err = run(*arguments)
    assert status == 2 and message in err and len(err.strip().splitlines()) == 1


def test_digits_need_no_preparing(run):
    status, out, _ = run("digits")
    assert status == 0 and "comes with the package" in out


@pytest.fixture
def server():
    """Serves `content` at every path, from where a client asks on if it `resumes`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        content, requests, resumes = b"", [], True

        def do_GET(self):
            self.requests.append(self.headers.get("Range"))
            first = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if self.resumes else 0
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(self.content) - first))
            self.end_headers()
            self.wfile.write(self.content[first:])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        Handler.url = f"http://127.0.0.1:{httpd.server_port}/a.zip"
        yield Handler
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("resumes", [True, False])
def test_download_goes_on_where_it_stopped(server, tmp_path, resumes):
    """Or anew, from a server that sends the whole file whatever is asked for."""
    server.content, server.requests, server.resumes = bytes(range(256)) * 40, [], resumes
    digest = "md5:" + hashlib.md5(server.content, usedforsecurity=False).hexdigest()
    archive = Archive("a.zip", len(server.content), digest, server.url)
    (tmp_path / "a.zip.part").write_bytes(server.content[:1000])
    path = download(archive, tmp_path)
    assert path.read_bytes() == server.content and server.requests == ["bytes=1000-"]
    assert download(archive, tmp_path) == path and len(server.requests) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_download_of_something_else_is_refused_and_removed(server, tmp_path):
    server.content, server.requests = b"x" * 100, []
    archive = Archive("a.zip", 100, "md5:" + "0" * 32, server.url)
    with pytest.raises(ValueError, match=r"a\.zip\.part has md5 .* it is damaged"):
        download(archive, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_network_is_one_line_that_offers_another_way(tmp_path):
    archive = Archive("a.zip", 100, "", "http://127.0.0.1:9/a.zip")
    with pytest.raises(ValueError, match=r"cannot be downloaded .*--manual_dir"):
        download(archive, tmp_path)


def test_download_is_announced_with_its_size(run, manual, server):
    server.content, server.requests = (manual / NAME).read_bytes(), []
    archive = OFFICIAL["cifar10"].archives[0]._replace(url=server.url)
    OFFICIAL["cifar10"] = OFFICIAL["cifar10"]._replace(archives=(archive,))
    status, out, _ = run("cifar10")
    assert status == 0 and f"downloading {server.url}, " in out and "train: 50 images" in out
