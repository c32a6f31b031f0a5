"""Implementations of the locally connected layer, one file each; all give the same numbers.

=========== ============================ ==========================================================
name        platform                     how the patches reach the multiplications
=========== ============================ ==========================================================
"native"    CPU, default                 C++: copies of a few rows and columns, in a core's cache
"mosaic"    TPU, default                 Pallas: a ring of image rows in VMEM
"triton"    NVIDIA GPU, default          Pallas: read from the image, tile by tile
"slices"    any, where no other will do  shifted slices of the image, written to memory
"patches"   any, the reference           one-hot convolutions, as ``flax.linen.ConvLocal`` does
=========== ============================ ==========================================================

``implementation=None`` takes the default of JAX's default backend where it supports the layer
(dtype, groups, number of axes), and ``"slices"`` elsewhere: also where XLA may split the arrays
over devices, as it can split plain operations but no custom kernels. It may where an array at hand
lies on several devices; in a program that is traced while several are visible, unless that is
inside ``shard_map`` over all axes of the mesh, the mesh of the context has one device
(:func:`jaxws.core.partitioning.one_device`) or it is one of :mod:`jaxws.core.islands`, where every
device computes its part by the default. For a program compiled ahead of time for another platform,
name the implementation, or set a mesh of that platform's devices.

A default proves itself where it runs: before its first use in a process, in each dtype, its
results on a small layer are compared with the formula's (:mod:`jaxws.core.implementations.proof`).
If it does not compile, raises or is wrong, a line on stderr says so and ``"slices"`` takes its
place. ``JAXWS_PROVE=0`` skips this, and ``python -m jaxws check`` does it for all of them. Neither
Pallas nor its backends are imported before one of their kernels is asked for.

``"native"`` is compiled by the machine's own C++ compiler the first time that it is needed, which
takes a few seconds, and kept in ``~/.cache/jaxws``. Without a compiler, a line on stderr says so
and ``"slices"`` takes its place. :mod:`jaxws.core.native.build` lists the variables that change
this.

:mod:`jaxws.core.implementations.spec` says what an implementation must offer,
:mod:`jaxws.core.implementations.autodiff` differentiates them all alike, and
:mod:`jaxws.core.implementations.dispatch` chooses.
"""
