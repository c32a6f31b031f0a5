"""A run's own step, compiled for devices that are not here: how it fits, and what it costs."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxws.config.registry import ARCHITECTURES, SHARING_RULES, add_own_fields
from jaxws.data.assumed import AssumedFeed, assumed_feed
from jaxws.models.build import build_model, variable_shapes
from jaxws.parallel.choice import Choice
from jaxws.parallel.collectives import Sent, collectives, wire_bytes
from jaxws.parallel.hbm import hbm_bytes
from jaxws.parallel.hlo import Program
from jaxws.parallel.mesh import make_mesh
from jaxws.parallel.placement import batch_sharding, state_shardings
from jaxws.parallel.topologies import Topology
from jaxws.system.text import size_text
from jaxws.training.mesh_choice import choose_for
from jaxws.training.optimizers import optimizer_settings
from jaxws.training.programs import compiled_initial_state, compiled_step, step_settings
from jaxws.training.run import Run
from jaxws.training.run_mesh import asked_sizes
from jaxws.training.state import TrainState
from jaxws.training.state_layout import uses_packed_layout
from jaxws.training.weight_sharing import make_sharing, pool


class Ahead(NamedTuple):
    """A step that is compiled for a topology; all sizes are of one device.

    Attributes:
      topology: for which.
      mesh: sizes of its axes, by name.
      choice: why this mesh; None where the configuration says so.
      images: that the network sees in a step, on all devices; views of one count each.
      parameters: number of them.
      arguments: bytes of state and data.
      temporaries: bytes that the step takes besides.
      peak: bytes of all that there is at once.
      sent: by kind of collective.
      hbm: bytes that are moved to and from memory, at most.
      flops: floating-point operations; None where XLA does not tell.
      seconds: that it took to compile.
    """

    topology: Topology
    mesh: dict[str, int]
    choice: Choice | None
    images: int
    parameters: int
    arguments: int
    temporaries: int
    peak: int
    sent: dict[str, Sent]
    hbm: int
    flops: float | None
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether it fits into memory."""
        return self.peak <= self.topology.chip.memory

    @property
    def step_seconds(self) -> tuple[float, float]:
        """A range for the time of a step: of arithmetic, not of a measurement.

        At least, the slowest of memory, arithmetic and links takes its time at full speed while the
        others run; at most, one comes after the other and one link of a chip sends everything.
        """
        chip, sent = self.topology.chip, wire_bytes(self.sent)
        memory, compute = self.hbm / chip.bandwidth, (self.flops or 0) / chip.flops
        least = max(memory, compute, sent / (chip.link * chip.links))
        return least, memory + compute + sent / chip.link


def compile_ahead(config: ConfigDict, topology: Topology) -> Ahead:
    """Compiles the step that a run repeats, as it is from its second one on.

    Args:
      config: of the run; gets the fields of its own network and sharing rule that it has not.
      topology: the devices to compile for.

    Returns:
      What is known of the step.

    Raises:
      ValueError: what is wrong with the configuration, data of which nothing is known, or a step
        that does not fit into memory.
    """
    add_own_fields(config)
    SHARING_RULES.load(config.sharing.mode).check(config)
    feed = assumed_feed(config)
    model = build_model(config.model, len(feed.class_names))
    ARCHITECTURES.load(config.model.architecture).check(config.model, feed.image_shape)
    sharing = make_sharing(config, model, feed.image_shape, feed.steps_per_epoch)
    devices, choice = len(topology.devices), None
    sizes = asked_sizes(config, devices)
    if sizes is None:
        choice = choose_for(config, model, sharing, feed.image_shape, devices)
        sizes = choice.sizes
    mesh = make_mesh(**sizes, devices=topology.devices)
    # Nothing of this run is open, and nothing of it is asked for but what a step is made of.
    run = Run(config, None, feed, model, sharing, mesh)  # type: ignore[arg-type]
    with jax.set_mesh(mesh):
        state = _state(run)
        begun = time.monotonic()
        compiled = _compile(run, state, _inputs(feed, mesh), topology)
        seconds = time.monotonic() - begun
    params = variable_shapes(model, feed.image_shape)["params"]
    program, memory = Program(compiled.as_text()), compiled.memory_analysis()
    arguments, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    return Ahead(
        topology=topology,
        mesh=sizes,
        choice=choice,
        images=config.batch_size,
        parameters=sum(shape.size for shape in jax.tree.leaves(params)),
        arguments=arguments,
        temporaries=temporaries,
        peak=arguments + temporaries + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        sent=collectives(program, mesh.size),
        hbm=hbm_bytes(program),
        flops=(compiled.cost_analysis() or {}).get("flops"),
        seconds=seconds,
    )


def _compile(run: Run, state: TrainState, inputs: Any, topology: Topology) -> Any:
    settings = step_settings(run, optimizer_settings(run.config, run.feed.steps_per_epoch))
    lowered = compiled_step.lower(state, inputs, settings=settings)
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ValueError(does_not_fit(topology, str(error).strip().splitlines()[0])) from error


def does_not_fit(topology: Topology, why: str) -> str:
    """What to do about a step that needs more memory than a device has.

    Args:
      topology: of the devices.
      why: what it needs, or a compiler's reason.

    Returns:
      One line.
    """
    return (
        f"--topology={topology.name!r}: the step does not fit into"
        f" {size_text(topology.chip.memory)} ({why}): set a smaller --config.batch_size, or"
        " --config.accumulate to compute its gradients in parts, --config.model.dtype=bfloat16, a"
        " mesh with larger --config.mesh.h and w, which split weights, or take more chips."
    )


def _state(run: Run) -> TrainState:
    """Shapes and shardings of the state between steps."""
    shapes = jax.eval_shape(
        lambda: compiled_initial_state(
            jax.random.key(run.config.seed),
            model=run.model,
            optimizer=optimizer_settings(run.config, run.feed.steps_per_epoch),
            image_shape=run.feed.image_shape,
            dtype=run.config.model.dtype,
            packed=uses_packed_layout(),
        )
    )
    if run.sharing.keeps_shared:
        pooled = jax.eval_shape(partial(pool, sharing=run.sharing), shapes.params)
        shapes = shapes.replace(params=pooled)
    return _with_shardings(shapes, state_shardings(shapes, run.mesh))


def _inputs(feed: AssumedFeed, mesh: Mesh) -> Any:
    def sharding(shape: Any, by_image: bool) -> NamedSharding:
        if by_image:
            return batch_sharding(mesh)
        return NamedSharding(mesh, PartitionSpec())

    return _with_shardings(feed.inputs, jax.tree.map(sharding, feed.inputs, feed.by_image))


def _with_shardings(shapes: Any, shardings: Any) -> Any:
    return jax.tree.map(lambda shape, at: shape.update(sharding=at), shapes, shardings)
