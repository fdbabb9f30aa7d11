"""Starting and joining Ray, quietly and closed to the outside."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import IO, Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.copied_modules import FILE_MODULE_PREFIX
from raytune_hpo.settings import Resources
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.workers.machine import cpus, gpus
from raytune_hpo.workers.pickling import culprit
from raytune_hpo.workers.ray_folder import check_folder, ray_folder

LOOPBACK = "127.0.0.1"
CONNECT_TIMEOUT_S = 3.0

# Read by Ray when it is imported or started.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


def own_ray() -> bool:
    """Whether the user has a Ray already, in this process: then its resources count, and not the machine's."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _own_resource(name: str) -> float:
    """Of the machine of the user's Ray that has the most."""
    import ray

    return max((float(node["Resources"].get(name, 0.0)) for node in ray.nodes() if node["Alive"]), default=0.0)


def cpus_here() -> float:
    return _own_resource("CPU") if own_ray() else cpus()


def gpus_here() -> float:
    return _own_resource("GPU") if own_ray() else gpus()


def check_local_resources(resources: Resources) -> None:
    """Raise ExperimentError if no trial would ever fit here."""
    for field, wanted, present, what in (
        ("resources.cpus", resources.cpus, cpus_here(), "CPU cores"),
        ("resources.gpus", resources.gpus, gpus_here(), "GPUs"),
    ):
        if wanted > present:
            place, more = "this machine", ", or join a cluster (--address)"
            if own_ray():
                place, more = "the Ray of this process", ""
            raise ExperimentError(field, wanted, f"{place} has {present:g} {what}; ask for less{more}")


REMEDY = 'make it inside the function, or use executor="inline", which pickles nothing'


def check_object_travels(field: str, text: str, value: Any) -> None:
    """Raise ExperimentError where an object that stands in the space cannot be pickled."""
    found = _kept_here(value)
    if found is not None:
        raise ExperimentError(field, text, f"cannot travel to workers: {found}; {REMEDY}")


def check_travels(task: Any) -> None:
    """Raise ExperimentError where a trainable, or the recipe of a task, cannot be pickled."""
    found = _kept_here(task)
    if found is not None:
        what = task.task if isinstance(task, Recipe) else task
        name = getattr(what, "__qualname__", type(what).__qualname__)
        raise ExperimentError("task", name, f"cannot travel to workers: {found}; {REMEDY}")


def _kept_here(value: Any) -> str | None:
    """What keeps a value from travelling, None where it does."""
    with _environment():
        from ray import cloudpickle

        def travels(value: Any) -> bool:
            try:
                cloudpickle.dump(value, _Nowhere())
            except Exception:  # a user's own __reduce__ may raise anything
                return False
            return True

        with importable_by_value():
            return culprit(value, travels)


class _Nowhere:
    """A file that keeps nothing: what is pickled may be large."""

    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


def check_address(address: str) -> None:
    """Raise ExperimentError at once for an address that Ray would wait a minute for, to end the process then."""
    if address == "auto" or "://" in address:
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ExperimentError("--address", address, "must be auto or HOST:PORT")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ExperimentError("--address", address, f"nothing answers there ({error.strerror or error})") from error


@contextlib.contextmanager
def _closed_to_the_outside() -> Iterator[None]:
    """Let a Ray that is started in here bind to loopback.

    On Linux Ray replaces a loopback address by the machine's own, and all its servers then listen on every
    interface. It leaves the address alone where its switch for Windows and macOS says that this is no cluster: read
    from the environment by the processes it starts, and by this one when it imported Ray, maybe long ago.
    """
    from ray._private import ray_constants

    name: str = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    variable, constant = os.environ.get(name), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[name] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        if variable is None:
            del os.environ[name]
        else:
            os.environ[name] = variable


@contextlib.contextmanager
def _lean(*, verbose: bool) -> Iterator[None]:
    """Let a Ray that is started in here leave out three processes that serve no trial.

    The autoscaler's monitor, the API server (with the dashboard off it is there for usage statistics) and,
    unless workers' output is shown, the log monitor: together half of the time that ray.init takes.
    """
    from ray._private.node import Node

    replaced: dict[str, Any] = {"start_monitor": lambda node: None, "start_api_server": _no_api_server}
    if not verbose:
        replaced["start_log_monitor"] = lambda node: None
    before = {name: getattr(Node, name) for name in replaced}
    for name, stand_in in replaced.items():
        setattr(Node, name, stand_in)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(Node, name, method)


def _no_api_server(node: Any, **_: Any) -> None:
    node._webui_url = ""


@contextlib.contextmanager
def _off_stdout(*, verbose: bool) -> Iterator[None]:
    """Keep Ray off standard output, which is for our own document.

    Whatever log_to_driver says, Ray prints there what the raylet has to say of a worker that died.
    """
    from ray._private import worker

    print_to = worker.print_to_stdstream

    def to_stderr(data: dict[str, Any], *arguments: Any, **options: Any) -> None:
        if verbose:
            print_to({**data, "is_err": True}, *arguments, **options)

    worker.print_to_stdstream = to_stderr
    try:
        yield
    finally:
        worker.print_to_stdstream = print_to


@contextlib.contextmanager
def _stderr_in(file: IO[bytes]) -> Iterator[None]:
    """Send stderr to a file, what Ray's C++ writes there as well."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _start(folder: str | None, **options: Any) -> None:
    """Start a Ray of this machine's own. folder: see `ray_folder`. Raises ExperimentError where that fails."""
    import ray

    try:
        with _closed_to_the_outside(), _lean(verbose=options["log_to_driver"]):
            ray.init(
                address="local",
                include_dashboard=False,
                num_cpus=cpus(),
                num_gpus=gpus(),
                _node_ip_address=LOOPBACK,
                _temp_dir=folder,
                **options,
            )
    except Exception as error:  # Ray raises all kinds, its plain base among them
        reason = " ".join(str(error).split())[:300]
        raise ExperimentError("ray", "local", f"cannot be started on this machine: {reason}") from error


def _join(address: str, **options: Any) -> None:
    """Join a cluster. Raises ExperimentError that says why it cannot be joined."""
    import ray

    with contextlib.ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile())
        try:
            with contextlib.nullcontext() if options["log_to_driver"] else _stderr_in(said):
                ray.init(address=address, **options)
        except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError) as error:
            said.seek(0)
            reason = f"{error} {said.read().decode(errors='replace')}"
            if "InvalidAuthToken" in reason or isinstance(error, ray.exceptions.AuthenticationError):
                expected = (
                    "refuses this process: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE, a copy of its token"
                )
            else:
                expected = f"cannot join this cluster: {' '.join(str(error).split())[:300]}"
            raise ExperimentError("--address", address, expected) from error


@contextlib.contextmanager
def ray_session(address: str | None, *, verbose: bool) -> Iterator[None]:
    """Ray, started here (address None) or joined ("auto", "HOST:PORT"), or the one that this process has already.

    Left as it was found.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment())
        with warnings.catch_warnings():
            if not verbose:
                warnings.simplefilter("ignore")
            import ray

            found = ray.is_initialized()
            if not found:
                level = logging.INFO if verbose else logging.ERROR
                options = {"log_to_driver": verbose, "logging_level": level, "configure_logging": True}
                if address is not None:
                    _join(address, **options)
                else:
                    check_folder()
                    _start(stack.enter_context(ray_folder(keep=verbose)), **options)
                stack.callback(ray.shutdown)
        if not verbose:
            stack.enter_context(_silent("ray", "ray.tune", "ray.train", "ray.data"))
        stack.enter_context(_off_stdout(verbose=verbose))
        yield


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """What Ray reads in the environment is as we need it; what it writes there itself is taken back as well."""
    before = _of_rays()
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    try:
        yield
    finally:
        for name in _of_rays().keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _of_rays() -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name.startswith(("RAY_", "TUNE_"))}
    if "PYTHONBREAKPOINT" in os.environ:
        found["PYTHONBREAKPOINT"] = os.environ["PYTHONBREAKPOINT"]
    return found


@contextlib.contextmanager
def _silent(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def importable_by_value() -> Iterator[None]:
    """Let what is defined in experiment files travel to workers as it is here, whatever it is wrapped in."""
    from ray import cloudpickle

    there = cloudpickle.list_registry_pickle_by_value()  # one of these contexts may be within another
    files = [module for name, module in list(sys.modules.items()) if name.startswith(FILE_MODULE_PREFIX)]
    files = [module for module in files if module.__name__ not in there]
    for module in files:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in files:
            cloudpickle.unregister_pickle_by_value(module)
