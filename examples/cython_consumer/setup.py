"""Builds loops.pyx: python setup.py build_ext --inplace"""

from Cython.Build import cythonize
from setuptools import Extension, setup

import shmring

setup(
    name="cython-consumer",
    ext_modules=cythonize(
        [Extension("loops", ["loops.pyx"], include_dirs=[shmring.get_include()], extra_compile_args=["-O3"])],
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False},
    ),
)
