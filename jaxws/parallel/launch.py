"""Which processes share a run: as flags say, or as SLURM, Open MPI and TPU pods do.

What surrounds a process is told by its environment, which costs nothing to look at, and by whether
there is a TPU in this machine. Only where those say that there are several processes, JAX's own
detection is asked for the rest; on a TPU pod it asks the machine's metadata server.
"""

from __future__ import annotations

import argparse
import glob
import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The environments that JAX knows, by its names for them.
SLURM, OPEN_MPI, OPEN_MPI_5, GKE_TPU, GCE_TPU = "slurm", "ompi", "mpi4py", "gketpu", "gcetpu"
_NUMBERS = ("coordinator", "num_processes", "process_id")
_STEP_TASKS = "SLURM_STEP_NUM_TASKS"  # a job has tasks, and its steps have some of them
_NO_METADATA = "TPU_SKIP_MDS_QUERY"  # where there is no server to ask; JAX sets it without a TPU
_TPU_DEVICES = ("/dev/accel*", "/dev/vfio/[0-9]*")


@dataclass(frozen=True)
class Cluster:
    """The processes of a run, and which of them this is.

    Attributes:
      address: HOST:PORT, a port of process 0's machine that all others can reach.
      count: number of processes.
      index: of this one.
      local_devices: numbers of the devices that it uses of its machine's; None for all.
    """

    address: str
    count: int
    index: int
    local_devices: Sequence[int] | None = None

    @property
    def host(self) -> str:
        """Process 0's machine."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """A port of it."""
        return int(self.address.rpartition(":")[2])


def add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say how processes find one another.

    Args:
      parser: of a command.
    """
    group = parser.add_argument_group("several processes")
    group.add_argument(
        "--distributed",
        action=argparse.BooleanOptionalAction,
        help="share the run with the other processes of this TPU pod, SLURM or Open MPI job"
        " (default: where there are others)",
    )
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="elsewhere: a free port of process 0's machine; with the next two",
    )
    group.add_argument("--num_processes", type=int, metavar="N", help="number of processes")
    group.add_argument("--process_id", type=int, metavar="I", help="of this one, from 0")
    group.add_argument(
        "--initialization_timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for the other processes (default: 300)",
    )


def cluster_of(args: argparse.Namespace, environ: Mapping[str, str]) -> Cluster | None:
    """Finds the processes that a run is shared by.

    Args:
      args: with the flags of :func:`add_launch_arguments`.
      environ: such as ``os.environ``.

    Returns:
      The cluster, or None for one process alone.

    Raises:
      ValueError: flags that are wrong or not enough, or an environment that is.

    Example:
      >>> parser = argparse.ArgumentParser()
      >>> add_launch_arguments(parser)
      >>> flags = ["--coordinator=node1:1234", "--num_processes=2", "--process_id=1"]
      >>> cluster_of(parser.parse_args(flags), {})
      Cluster(address='node1:1234', count=2, index=1, local_devices=None)
      >>> slurm = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}
      >>> cluster_of(parser.parse_args([]), slurm)
    """
    given = {name: getattr(args, name) for name in _NUMBERS}
    if any(value is not None for value in given.values()):
        if args.distributed is False:
            raise ValueError(f"{_flags(given)} and --no-distributed contradict each other.")
        return _checked(given)
    if args.distributed is False:
        return None
    method = surroundings(environ)
    if method is not None:
        return _detected(method, args.initialization_timeout)
    if args.distributed:
        raise ValueError(
            "--distributed: this is no TPU pod, and no job of several processes of SLURM (srun) or"
            " Open MPI (mpirun). Elsewhere, give --coordinator=HOST:PORT --num_processes=N"
            " --process_id=I."
        )
    return None


def surroundings(environ: Mapping[str, str], devices: Sequence[str] = _TPU_DEVICES) -> str | None:
    """What may have started several processes, as this one's environment says.

    Args:
      environ: such as ``os.environ``.
      devices: patterns of the files that a machine with a TPU has, if not it alone.

    Returns:
      JAX's name for it; None where nothing says that there is another process.

    Example:
      >>> surroundings({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://a:1"})
      'ompi'
      >>> surroundings({"SLURM_NTASKS": "4"})  # a batch script itself, without srun
    """
    if _number(environ, "OMPI_COMM_WORLD_SIZE") > 1:
        return OPEN_MPI if "OMPI_MCA_orte_hnp_uri" in environ else OPEN_MPI_5
    # A batch script has the job's number of tasks; only what srun starts has that of its step.
    if _number(environ, _STEP_TASKS) > 1:
        return SLURM
    if not any(glob.glob(pattern) for pattern in devices):
        return None
    if hosts := environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES"):
        several = "," in hosts or _number(environ, "MEGASCALE_NUM_SLICES") > 1
        return GKE_TPU if several else None
    is_tpu_vm = _NO_METADATA not in environ and importlib.util.find_spec("libtpu")
    return GCE_TPU if is_tpu_vm else None


def _detected(method: str, timeout: float) -> Cluster | None:
    """Asks JAX for the numbers.

    It has no public name for that other than starting itself with them; but who is waited for is to
    be told before.
    """
    # JAX takes a second to import, which one process alone need not wait for here.
    from jax._src.clusters import ClusterEnv

    if method == GCE_TPU and _NO_METADATA in os.environ:
        return None  # JAX has looked at the devices now, and none is a TPU
    tasks = _number(os.environ, _STEP_TASKS) if method == SLURM else None
    try:
        address, count, index, local = ClusterEnv.auto_detect_unset_distributed_params(
            None, tasks, None, _local_devices(), method, int(timeout)
        )
    except Exception as error:  # of metadata servers, mpi4py and environments that are not whole
        raise ValueError(
            f"the processes of this job could not be found ({method}: {error}); give"
            " --coordinator=HOST:PORT --num_processes=N --process_id=I, or --no-distributed."
        ) from error
    if address is None or count is None or index is None:
        raise ValueError(
            f"JAX finds no job of several processes here ({method}); give --coordinator=HOST:PORT"
            " --num_processes=N --process_id=I, or --no-distributed for each process alone."
        )
    return Cluster(address, count, index, local) if count > 1 else None


def _local_devices() -> list[int] | None:
    """Those that JAX's own variable names, as for ``jax.distributed.initialize``."""
    given = os.environ.get("JAX_LOCAL_DEVICE_IDS")
    return [int(number) for number in given.split(",")] if given else None


def _checked(given: Mapping[str, Any]) -> Cluster | None:
    """A cluster from its three flags."""
    missing = [name for name in _NUMBERS if given[name] is None]
    if missing:
        needed = " and ".join(f"--{name}" for name in missing)
        raise ValueError(f"{_flags(given)} without {needed}: all three are needed.")
    address, count, index = (given[name] for name in _NUMBERS)
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"--coordinator={address}: expected HOST:PORT, such as 10.0.0.1:1234, a free port of"
            " process 0's machine."
        )
    if count < 1 or not 0 <= index < count:
        raise ValueError(
            f"--num_processes={count} --process_id={index}: expected a number of processes, and"
            " that of this one, from 0 to one less."
        )
    return Cluster(address, count, index, _local_devices()) if count > 1 else None


def _flags(given: Mapping[str, Any]) -> str:
    return " ".join(f"--{name}={value}" for name, value in given.items() if value is not None)


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    return int(text) if text.isdecimal() else 0
