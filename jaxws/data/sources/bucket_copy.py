"""A prepared data set that lies in a bucket: copied to this machine once, and read here.

Records are read one by one in another order in every epoch, which would be a request for each.
"""

from __future__ import annotations

import hashlib
import pathlib
import time
from typing import BinaryIO

from jaxws.system.bucket import BucketDirectory
from jaxws.system.locks import lock
from jaxws.system.text import say
from jaxws.system.user_cache import user_cache

_LOOK_SECONDS = 1.0


def copied_root(url: str, name: str) -> pathlib.Path:
    """A local directory of TFDS data that has a copy of a data set in a bucket.

    A copy that was broken off goes on where it was. A whole one is not compared with the bucket
    again: remove it where the data set has changed.

    Args:
      url: of the directory of TFDS data in the bucket.
      name: of the data set, as for :func:`jaxws.data.sources.named.open_prepared`.

    Returns:
      The directory, in :func:`jaxws.system.user_cache.user_cache`.

    Raises:
      ValueError: the address is none, or the bucket has no such data set.
      OSError: the bucket cannot be read, or there is no room.
    """
    name = name.partition(":")[0].partition("/")[0]
    bucket = BucketDirectory(f"{url.rstrip('/')}/{name}")
    digest = hashlib.sha256(bucket.url.encode()).hexdigest()[:16]
    root = user_cache() / "data" / digest
    done = root / f"{name}.copied"
    root.mkdir(parents=True, exist_ok=True)
    with _waited_for(root / "lock"):
        if not done.exists():
            _copy(bucket, root / name)
            done.touch()
    return root


def _copy(bucket: BucketDirectory, place: pathlib.Path) -> None:
    # Directories have objects too, where they were made by hand.
    names = [n for n in bucket.names() if not {"", ".", ".."} & {*n.split("/")}]
    if not names:
        raise ValueError(
            f"config.data.data_dir: there is nothing in {bucket.url}; prepare the data set on a"
            " local disk (`python -m jaxws prepare`), and copy it by `gcloud storage cp -r`."
        )
    missing = {n: place / n for n in names if not (place / n).exists()}
    say(f"copying {bucket.url}: {len(missing)} files, once, to {place}")
    bucket.download(missing)


def _waited_for(path: pathlib.Path) -> BinaryIO:
    """A lock, when no other process of this machine has it."""
    while True:
        try:
            return lock(path)
        except BlockingIOError:
            time.sleep(_LOOK_SECONDS)
