"""Where batches lie: their bits do not depend on it, nor on who makes which of their rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.data import Dataset, DeviceFeed, HostFeed, Split
from jaxws.data.splits import SplitRows
from jaxws.parallel.mesh import make_mesh
from jaxws.parallel.placement import MeshPlacing, split_batch
from tests.support.jpeg_set import make_set

TRAIN, TEST, BATCH, N_REPS = 21, 5, 8, 2
ROWS = BATCH * N_REPS
COMMON = {"seed": 3, "batch_size": BATCH, "n_reps": N_REPS, "flip": True, "dtype": jnp.float32}


class Some:
    """The part of one process, which stays on the host."""

    parts = 8

    def __init__(self, name):
        self._name = name

    def rows(self, n):
        number = int(self._name.partition("/")[0])
        assignment = {
            "of 1": np.zeros(n, int),
            "of 2": np.arange(n) * 2 // n,
            "of 4": np.arange(n) * 4 // n,
            "by chance": np.random.default_rng(0).integers(0, 3, n),
        }[self._name.partition("/")[2]]
        return np.flatnonzero(assignment == number)

    def batch(self, tree, n):
        assert all(len(array) == len(self.rows(n)) for array in jax.tree.leaves(tree))
        return tree

    def everywhere(self, tree):
        return tree


def host_feed(tmp_path):
    builder = make_set(tmp_path, train=TRAIN, validation=TEST)
    options = {"eval_batch_size": 7, "crop_size": 8, "mean_std": "imagenet"}
    return HostFeed("imagenet2012", builder, **options, **COMMON)


def device_feed(tmp_path):
    numbers = np.random.default_rng(0)
    train, test = (
        Split(numbers.integers(0, 256, (n, 8 * 8 * 3), np.uint8), np.arange(n, dtype=np.int32))
        for n in (TRAIN, TEST)
    )
    mean = np.full(3, 0.5, np.float32)
    chosen = SplitRows(np.arange(TRAIN), None)
    dataset = Dataset("noise", train, test, (8, 8, 3), tuple("abc"), mean, mean / 2, chosen)
    return DeviceFeed(dataset, eval_batch_size=7, pad=1, **COMMON)


def inputs_of(feed):
    """Of two training steps, the second of which is ragged, and of the evaluation."""
    train = feed.train_inputs(1)
    taken = [next(train), next(train), *feed.eval_inputs()]
    train.close()
    return taken


@pytest.mark.parametrize(("processes", "how"), [(2, "of 2"), (4, "of 4"), (3, "by chance")])
def test_parts_of_processes_are_the_batches_of_one(tmp_path, processes, how):
    feed = host_feed(tmp_path)
    feed.placing = Some("0/of 1")
    whole = inputs_of(feed)
    assert [len(inputs.label) for inputs in whole] == [ROWS, ROWS, 8]
    assert [int((inputs.label >= 0).sum()) for inputs in whole] == [ROWS, 5 * N_REPS, TEST]
    for number in range(processes):
        feed.placing = Some(f"{number}/{how}")
        for all_rows, inputs in zip(whole, inputs_of(feed), strict=True):
            rows = feed.placing.rows(len(all_rows.label))
            np.testing.assert_array_equal(inputs.image, all_rows.image[rows])
            np.testing.assert_array_equal(inputs.label, all_rows.label[rows])
            assert (inputs.key is None) == (all_rows.key is None)


@pytest.mark.devices(8)
@pytest.mark.parametrize("make", [host_feed, device_feed])
def test_batches_on_a_mesh_are_those_of_one_device(tmp_path, make):
    def batches(feed, finish):
        jitted = [
            jax.jit(lambda inputs, step: finish(feed.batching.train_batch(inputs, step))),
            jax.jit(lambda inputs, _: finish(feed.batching.eval_batch(inputs))),
        ]
        steps = zip([jitted[0]] * 2 + [jitted[1]], inputs_of(feed), range(1, 4), strict=True)
        return [(inputs, batch(inputs, step)) for batch, inputs, step in steps]

    plain, split = make(tmp_path), make(tmp_path)
    split.placing = MeshPlacing(make_mesh(2, 2, 2))
    with jax.set_mesh(make_mesh(2, 2, 2)):
        meshed = batches(split, split_batch)
    plain = batches(plain, lambda batch: batch)
    for (inputs, batch), (_, expected) in zip(meshed, plain, strict=True):
        assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(inputs))
        rows, padded = len(expected.label), len(batch.label)
        assert padded == -(-rows // 8) * 8
        for ours, theirs in zip(batch, expected, strict=True):
            assert rows_of_shards(ours) == {padded // 8}
            np.testing.assert_array_equal(np.asarray(ours)[:rows], theirs)
        assert not np.asarray(batch.mask)[rows:].any()
        if make is host_feed:
            assert rows_of_shards(inputs.image) == rows_of_shards(inputs.label) == {padded // 8}


def rows_of_shards(array):
    return {shard.data.shape[0] for shard in array.addressable_shards}
