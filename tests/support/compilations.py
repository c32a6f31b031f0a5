"""What JAX compiles, and what it finds in its cache on disk."""

from contextlib import contextmanager

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"  # or read from the cache on disk
_REQUESTED = "/jax/compilation_cache/compile_requests_use_cache"
_FOUND = "/jax/compilation_cache/cache_hits"


@contextmanager
def compilations():
    """A list that gets the name of every function that a program is made for."""
    names = []

    def listen(event, _, **arguments):
        if event == _COMPILED:
            names.append(arguments.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@contextmanager
def disk_cache():
    """A dict that counts the programs looked for in the cache, and those found there."""
    counts = {"asked": 0, "found": 0}

    def listen(event, **_):
        counts["asked"] += event == _REQUESTED
        counts["found"] += event == _FOUND

    jax.monitoring.register_event_listener(listen)
    try:
        yield counts
    finally:
        jax.monitoring.unregister_event_listener(listen)
