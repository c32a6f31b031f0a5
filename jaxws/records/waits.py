"""How long steps wait for their input."""

from __future__ import annotations

import time
from typing import Any

import jax

from jaxws.data import Prefetch


class Waits:
    """Takes a run's inputs, and measures the time in which nothing was left to compute.

    Steps are dispatched ahead of the device, so that waiting in the program need not be waiting of
    the device. Where the next input is not there yet, the steps that were dispatched are awaited
    first, as nothing else can be done; only what comes after counts.

    Attributes:
      waited: seconds waited since the beginning.

    Example:
      >>> with Prefetch(iter([3]), ahead=1) as inputs:
      ...     waits = Waits(inputs)
      ...     waits.next(pending=None)
      3
      >>> waits.waited >= 0
      True
    """

    def __init__(self, inputs: Prefetch[Any]):
        """Starts at zero.

        Args:
          inputs: what the steps need.
        """
        self._inputs, self.waited = inputs, 0.0

    def next(self, pending: Any) -> Any:
        """The input of the next step.

        Args:
          pending: results of the last step that was dispatched, or None.

        Returns:
          The input.
        """
        if not self._inputs.ready():
            jax.block_until_ready(pending)
        begin = time.perf_counter()
        inputs = next(self._inputs)
        self.waited += time.perf_counter() - begin
        return inputs
