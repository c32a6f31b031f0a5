"""Which processes share a run: flags, and environments as those of SLURM, Open MPI and TPU pods."""

import argparse
import os
import socket

import pytest

from jaxws.parallel.launch import Cluster, add_launch_arguments, cluster_of, surroundings

SLURM = {
    "SLURM_JOB_ID": "4097", "SLURM_STEP_NODELIST": "node[003-004,9],b1", "SLURM_PROCID": "2",
    "SLURM_LOCALID": "1", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "4",
}  # fmt: skip
OPEN_MPI_4 = {
    "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}  # fmt: skip
OPEN_MPI_5 = {k: v for k, v in OPEN_MPI_4.items() if "orte" not in k} | {"OMPI_VERSION": "5.0.6"}


def args(*flags):
    parser = argparse.ArgumentParser()
    add_launch_arguments(parser)
    return parser.parse_args(flags)


@pytest.fixture
def environment(monkeypatch):
    """Sets variables of this process, and forbids it to look into the network."""

    def refuse(*_, **__):
        raise AssertionError("this looks into the network")

    for name in ("socket", "create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)

    def change(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return os.environ

    return change


def test_flags():
    given = ("--coordinator=[::1]:1234", "--num_processes=3", "--process_id=2")
    cluster = cluster_of(args(*given), SLURM)  # they count for more than surroundings
    assert cluster == Cluster("[::1]:1234", 3, 2)
    assert (cluster.host, cluster.port) == ("::1", 1234)
    assert cluster_of(args(given[0], "--num_processes=1", "--process_id=0"), {}) is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_processes=2"], "--num_processes=2 without --coordinator and --process_id: all"),
        (["--process_id=0"], "--process_id=0 without --coordinator and --num_processes: all three"),
        (["--coordinator=a:1", "--process_id=2"], "--coordinator=a:1 --process_id=2 without --num"),
        (["a", "2", "0"], "--coordinator=a: expected HOST:PORT, such as 10.0.0.1:1234, a free"),
        (["a:b", "2", "0"], "--coordinator=a:b: expected HOST:PORT"),
        (["a:70000", "2", "0"], "--coordinator=a:70000: expected HOST:PORT"),
        (["a:1", "2", "2"], "--num_processes=2 --process_id=2: expected a number of processes,"),
        (["a:1", "0", "0"], "--num_processes=0 --process_id=0: expected a number of processes,"),
        (["--process_id=0", "--no-distributed"], "--process_id=0 and --no-distributed contradict"),
        (["--distributed"], "--distributed: this is no TPU pod, and no job of several processes"),
    ],
)
def test_wrong_flags_are_one_line(flags, message):
    if not flags[0].startswith("--"):
        names = ("coordinator", "num_processes", "process_id")
        flags = [f"--{name}={value}" for name, value in zip(names, flags, strict=True)]
    with pytest.raises(ValueError) as error:
        cluster_of(args(*flags), {})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_machine_with_nothing_around_it(environment):
    assert cluster_of(args(), environment({})) is None


def test_slurm(environment):
    """The step's tasks, four, and not the job's."""
    variables = environment(SLURM)
    assert cluster_of(args(), variables) == Cluster("node003:61441", 4, 2, [1])
    assert cluster_of(args("--distributed"), variables).index == 2
    assert cluster_of(args("--no-distributed"), variables) is None


@pytest.mark.parametrize("change", [{"SLURM_STEP_NUM_TASKS": "1"}, {"SLURM_STEP_NUM_TASKS": ""}])
def test_slurm_with_one_task_and_the_batch_script_itself(environment, change):
    assert cluster_of(args(), environment(SLURM | change)) is None


def test_open_mpi(environment):
    cluster = cluster_of(args(), environment(OPEN_MPI_4))
    assert cluster == Cluster("10.96.0.1:62624", 2, 1, [0])
    assert cluster_of(args(), OPEN_MPI_4 | {"OMPI_COMM_WORLD_SIZE": "1"}) is None


def test_what_jax_cannot_find_is_one_line(environment):
    with pytest.raises(
        ValueError, match=r"this job could not be found \(mpi4py: .*mpi4py"
    ) as error:
        cluster_of(args(), environment(OPEN_MPI_5))
    assert str(error.value).endswith("--process_id=I, or --no-distributed.")
    assert "\n" not in str(error.value)


def test_tpus(tmp_path, environment, monkeypatch):
    there = (str(tmp_path / "accel*"),)
    hosts = {"TPU_WORKER_HOSTNAMES": "a,b"}
    assert surroundings(hosts, there) is None  # no TPU in this machine
    (tmp_path / "accel0").touch()
    assert surroundings(hosts, there) == "gketpu"
    assert surroundings({"TPU_WORKER_HOSTNAMES": "a"}, there) is None
    slices = {"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}
    assert surroundings(slices, there) == "gketpu"
    for found, method in ((None, None), ("libtpu", "gcetpu")):
        monkeypatch.setattr("importlib.util.find_spec", lambda _, found=found: found)
        assert surroundings({}, there) == method
        assert surroundings({"TPU_SKIP_MDS_QUERY": "1"}, there) is None
    monkeypatch.setattr("jaxws.parallel.launch.surroundings", lambda _: "gcetpu")
    assert cluster_of(args(), environment({"TPU_SKIP_MDS_QUERY": "1"})) is None  # JAX has set it
