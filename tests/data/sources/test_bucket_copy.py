"""Prepared data sets in a bucket are copied once, and read as any other."""

from pathlib import Path

import pytest

from jaxws.config import base_config
from jaxws.config.checks import check_config
from jaxws.data.sources.bucket_copy import copied_root
from jaxws.data.sources.digits import Builder
from jaxws.data.sources.named import open_prepared
from jaxws.data.sources.prepare import prepare
from jaxws.data.sources.records import Records

URL = "gs://bucket/tfds"


def test_a_data_set_is_copied_once_and_read(bucket, data_dir, capsys):
    with pytest.raises(ValueError, match="there is nothing in gs://bucket/tfds/digits; prepare"):
        copied_root(URL, "digits:1.0.0")
    builder = prepare(Builder(data_dir=data_dir))
    directory = Path(data_dir) / "digits"
    for file in directory.rglob("*"):
        if file.is_file():
            bucket.put(f"tfds/digits/{file.relative_to(directory)}", file.read_bytes())
    bucket.put("tfds/digits/", b"")
    bucket.fails = lambda method, name: 403 * (name.endswith("features.json"))
    with pytest.raises(OSError, match=r"features.json cannot be read \(PERMISSION_DENIED"):
        copied_root(URL, "digits")
    bucket.fails = lambda method, name: 0
    bucket.requests.clear()
    root = copied_root(f"{URL}/", "digits")  # goes on with what is missing
    read = [name for _, name in bucket.requests if name]
    assert 0 < len(read) < len(bucket.names("tfds/"))
    expected, copied = (Records(b, "test") for b in (builder, open_prepared("digits", root)))
    assert [copied[i].data for i in range(9)] == [expected[i].data for i in range(9)]
    bucket.requests.clear()
    assert copied_root(URL, "digits") == root and not bucket.requests
    assert "once" in capsys.readouterr().out


def test_only_prepared_data_sets_may_be_in_a_bucket():
    config = base_config()
    config.data.name, config.data.data_dir = "cifar10", URL
    check_config(config)
    config.data.data_dir = "gs://bucket"
    with pytest.raises(ValueError, match=r"^config.data.data_dir=gs://bucket: expected gs://BUCK"):
        check_config(config)
    config.data.path, config.data.data_dir = "images", URL
    with pytest.raises(ValueError, match=r"^config.data.data_dir=gs://bucket/tfds: expected a loc"):
        check_config(config)
