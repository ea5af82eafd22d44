"""Benchmarks: shmring against the native limit and against what Python users have today.

`python -m bench --help` says how to run them, `shapes.py` what is measured, `contenders/` who takes part,
`native/` is the C that sets the limit. `python -m bench --write-docs` writes docs/benchmarks.md.

How a run works: two processes (or more: `several.py`; or one: `crowd.py`), each pinned to a core, warm up
together (every message compared in full), report ready, get a line to start, run one timed loop, and print
one JSON line. The parent starts the contenders in turn, round after round, so that a drift of the machine
meets all of them.
"""
