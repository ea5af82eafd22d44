"""Benchmarks: shmring against the native limit and against what Python users have today.

`shmring bench` and `python -m bench` are the same (`--help` says how to run them): this folder is installed as
`shmring.bench`, so that nothing in it may say its own name. `shapes.py` says what is measured, `contenders/` who takes part,
`native/` is the C that sets the limit. `make bench` writes docs/benchmarks.md, its pictures and docs/report/results.json, which
`schema.json` describes; `page.py` makes the interactive report.

How a run works: two processes (or more: `several.py`; or one: `crowd.py`), each pinned to a core, warm up
together (every message compared in full), report ready, get a line to start, run one timed loop, and print
one JSON line. The parent starts the contenders in turn, round after round, so that a drift of the machine
meets all of them.
"""
