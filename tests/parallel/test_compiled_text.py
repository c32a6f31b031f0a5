"""What compiled programs send and move, read from their text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxws.parallel.collectives import Sent, collectives, wire_bytes
from jaxws.parallel.hbm import hbm_bytes
from jaxws.parallel.hlo import Program


@pytest.mark.devices(8)
def test_collectives_of_a_compiled_program_are_counted_by_kind_and_as_often_as_loops_run_them():
    def body(x):
        def halve(carry, _):
            return lax.psum(carry, "a") * 0.5, None

        return (
            lax.psum(x, "b"),
            lax.all_gather(x, "a", axis=0, tiled=True),
            lax.all_to_all(x, "b", 0, 1, tiled=True),
            lax.psum_scatter(x, ("a", "b"), scatter_dimension=0, tiled=True),
            lax.ppermute(x, "b", [(0, 1), (1, 2), (2, 3), (3, 0)]),
            lax.scan(halve, x, None, length=3)[0],
        )

    mesh, split = Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b")), P(("a", "b"))
    mapped = jax.shard_map(body, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    text = jax.jit(mapped).lower(jnp.ones((64, 16))).compile().as_text()
    found = collectives(Program(text), devices=8)

    each = 8 * 16 * 4  # bytes of a device's part
    assert found == {
        "all-reduce": Sent(4, 4 * each, 2 * 3 / 4 * each + 3 * each),
        "all-gather": Sent(1, 2 * each, each),
        "reduce-scatter": Sent(1, each, 7 / 8 * each),
        "all-to-all": Sent(1, each, 3 / 4 * each),
        "collective-permute": Sent(1, each, each),
    }
    assert wire_bytes(found) == 7.125 * each + each


_GPU = """\
ENTRY %main (x: f32[16,100]) -> f32[32,100] {
  %x = f32[16,100]{1,0} parameter(0)
  %gather = ((f32[16,100]{1,0}), f32[32,100]{1,0}) all-gather-start(%x), channel_id=1, \
replica_groups=[2,2]<=[4]
  %sum = ((f32[16,100]{1,0}, f32[16,100]{1,0}), (f32[16,100]{1,0}, f32[16,100]{1,0})) \
all-reduce-start(%x, %x), channel_id=2, replica_groups=[1,4]<=[4]
  %move = (f32[16,100]{1,0}, f32[16,100]{1,0}, u32[], u32[]) collective-permute-start(%x)
  %sums = (f32[16,100]{1,0}, f32[16,100]{1,0}) all-reduce-done(%sum)
  ROOT %out = f32[32,100]{1,0} all-gather-done(%gather)
}
"""


def test_asynchronous_collectives_name_what_they_are_given_beside_their_results():
    x = 16 * 100 * 4
    assert collectives(Program(_GPU), devices=4) == {
        "all-reduce": Sent(1, 2 * x, 2 * 3 / 4 * 2 * x),
        "all-gather": Sent(1, 2 * x, x),
        "collective-permute": Sent(1, x, x),
    }


_TPU = """\
HloModule jit_step, is_scheduled=true

%fused_start (p.0: bf16[4,64]) -> (bf16[4,64], bf16[16,64]) {
  %p.0 = bf16[4,64]{1,0:T(8,128)(2,1)} parameter(0)
  %gather.1 = bf16[16,64]{1,0:T(8,128)(2,1)} all-gather(%p.0), channel_id=7, \
replica_groups=mesh['data'=2,'h'=4] {'h'}, dimensions={0}, metadata={op_name="a/layer"}
  ROOT %started = (bf16[4,64]{1,0:T(8,128)(2,1)}, bf16[16,64]{1,0:T(8,128)(2,1)}) \
custom-call(%gather.1), custom_call_target="AsyncCollectiveStart"
}

%fused_done (p.1: bf16[4,64]) -> bf16[16,64] {
  %p.1 = bf16[4,64]{1,0:T(8,128)(2,1)} parameter(0)
  %gather.2 = bf16[16,64]{1,0:T(8,128)(2,1)} all-gather(%p.1), channel_id=7, \
replica_groups=mesh['data'=2,'h'=4] {'h'}, dimensions={0}, metadata={op_name="a/layer"}
  ROOT %done = bf16[16,64]{1,0:T(8,128)(2,1)} custom-call(%p.1, %gather.2)
}

ENTRY %main (x: f32[16,100], y: bf16[4,64]) -> f32[16,100] {
  %x = f32[16,100]{1,0:T(8,128)} parameter(0)
  %y = bf16[4,64]{1,0:T(8,128)(2,1)} parameter(1)
  %start = (bf16[4,64]{1,0:T(8,128)(2,1)}, bf16[16,64]{1,0:T(8,128)(2,1)}) fusion(%y), \
kind=kCustom, calls=%fused_start
  %slice = ((f32[16,100]{1,0:T(8,128)}), f32[8,100]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) \
slice-start(%x), slice={[0:8], [0:100]}
  %part = f32[8,100]{1,0:T(8,128)S(1)} slice-done(%slice)
  %sum.1 = f32[8,100]{1,0:T(8,128)S(1)} all-reduce(%part), channel_id=1, \
replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  %sum.2 = f32[8,100]{1,0:T(8,128)S(1)} all-reduce(%sum.1), channel_id=1, \
replica_groups=[2,4]<=[8], to_apply=%add
  %kept = bf16[16,64]{1,0:T(8,128)(2,1)} fusion(%y), kind=kCustom, calls=%fused_done
  ROOT %out = f32[16,100]{1,0:T(8,128)} fusion(%sum.2, %kept), kind=kLoop, calls=%none
}
"""


def test_text_of_a_tpu_program_is_read_with_its_tiles_memories_and_asynchronous_kernels():
    program = Program(_TPU)
    part, gathered = 8 * 100 * 4, 16 * 64 * 2
    assert collectives(program, devices=8) == {
        # All three ways to write groups: of 2, of 4, and along an axis of the mesh.
        "all-reduce": Sent(2, 2 * part, part + 2 * 3 / 4 * part),
        # In the kernel that starts it and in the one that ends it, but once.
        "all-gather": Sent(1, gathered, 3 / 4 * gathered),
    }
    # Tiles of 8 x 128 elements, of 16 x 128 for two bytes each would be less than is counted here.
    y, gathered_tiles = 8 * 128 * 2, 16 * 128 * 2
    x, slice_tiles = 16 * 128 * 4, 8 * 128 * 4
    start, kept = y + (y + gathered_tiles), y + gathered_tiles
    assert hbm_bytes(program) == start + slice_tiles + kept + (gathered_tiles + x)
