"""Builds the extension modules. Everything else about the package is in pyproject.toml.

SHMRING_DEBUG=1 compiles the kernel's own assertions in; they are off in wheels.
"""

import os
import platform

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

PORTS = [
    "sigbus", "region", "mapping", "table_lock", "registry", "ring", "waiter", "participant", "sender", "producer",
    "receiver", "view", "member", "consumer", "observer", "stats", "examine", "waitv", "packed", "counted", "watch",
    "sleeper", "codecs/pickled", "queue_pickle", "array_writer", "array_view", "array_reader", "array_consumer",
    "array_observer",
]
WITH_NUMPY = {"array_reader", "array_writer"}       # they are loaded by those who have arrays
# cmpxchg16b, which every x86-64 machine of the last fifteen years has, inline instead of a call.
PAIRS = ["-mcx16"] if platform.machine() in ("x86_64", "AMD64") else []
DEBUG = os.environ.get("SHMRING_DEBUG") == "1"
# Who names a level in CFLAGS gets that one.
LEVEL = [] if "-O" in os.environ.get("CFLAGS", "") else ["-O3"]

extensions = [
    Extension(
        f"shmring.{port.replace('/', '.')}",
        [f"shmring/{port}.pyx"],
        include_dirs=["shmring/include", *([numpy.get_include()] if port in WITH_NUMPY else [])],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_22_API_VERSION"), *([("SHMRING_DEBUG", "1")] if DEBUG else [])],
        extra_compile_args=["-std=gnu11", *LEVEL, "-Wall", "-Wextra", "-Wno-unused-parameter", *PAIRS],
        depends=[f"shmring/include/shmring/{header}.h" for header in ("atomic", "futex", "layout")],
    )
    for port in PORTS
    if os.path.exists(f"shmring/{port}.pyx")
]

setup(
    ext_modules=cythonize(
        extensions,
        nthreads=os.cpu_count() or 1,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "binding": False,  # plain builtin methods: Cython's own function type costs some 20 ns a call
            "embedsignature": True,
            "embedsignature.format": "clinic",  # what inspect.signature and help() read of a builtin method
        },
    ),
    options={"build_ext": {"parallel": os.cpu_count()}},
)
