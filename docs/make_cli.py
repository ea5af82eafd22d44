"""Makes docs/cli.md from the command line's own help: python docs/make_cli.py

A test compares the page with the help (tests/edges/test_cli_docs.py), so that neither changes without the other.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ["NO_COLOR"] = "1"

INTRODUCTION = """\
# The command line

`shmring COMMAND` comes with the package. `send`, `recv`, `ls`, `stat`, `rm` and `doctor` need nothing else; the others, and
colours, need the extra:

```sh
pip install 'shmring[cli]'
```

{table}

A NAME is what `shmring.open` takes: `quotes` is a ring in shared memory, `./quotes.ring` one in a file. `/proc/PID/fd/N`, as
`shmring ls` shows it, is a ring without a name that process PID has.

## Looking disturbs nobody

`ls`, `stat`, `top`, `tail`, `metrics`, `doctor` (without `--repair`) and `record` (without `--group`) open a ring for reading
only: its pages are mapped `PROT_READ`, so that not one byte of it can change (tests/edges/test_cli_readonly.py compares them).
They take no slot, no message from anybody, and hold nobody back, also while they are stopped.

A ring of another user is listed by `ls` if it can be read. The commands that open one ring want to be told that its maker is
trusted (`--trust USER`), as `shmring.open(trust=)` does; so does root.

![shmring ls: four rings, one of them damaged, one with a dead consumer](img/ls-dark.png)

![shmring top: three rings, and the busiest one in full](img/top-dark.png)

The same on a light terminal: [ls](img/ls-light.png), [top](img/top-light.png), [demo](img/demo-light.png).

`top` shows 80 columns, over ssh too. On a ring with eight busy participants it takes {cost} of a core at its default refresh
(`python tests/programs/top_cost.py` measures it). Counting what a group lags behind would take a pass over all its messages:
`ls`, `top` and `metrics` look at 4096 headers at most and guess the rest, which they mark with `~`; `stat` counts.

## What a recording is

`record` writes [MCAP](https://mcap.dev), a container for messages with their times that other tools read, too (Foxglove, the
`mcap` command, libraries for many languages):

| in the file | what it is |
|---|---|
| header | profile `shmring` |
| one channel | topic: the ring's name; no schema; message encoding: what MCAP calls the ring's codec, if it has a name \
for it; metadata: the ring's name, uuid, content, capacity, producers, align |
| metadata `shmring` | the same |
| messages | `log_time` and `publish_time`: when the recorder got it, in ns since 1970 (a ring keeps no times); `sequence`: \
its number since the start, modulo 2^32. A gap in it is a loss |
| metadata `shmring.end` | how many messages were recorded, and how many missed; then MCAP's summary |

There are no chunks: each message is a record of its own, and is handed to the kernel with those that came together with it. A
file that was cut at any byte (by `kill -9`, or a full disk) is whole up to the last whole message, and `replay` sends that
much. With `--group`, a message is released from the ring only when it is in the file, so a recorder that is killed leaves what
it had not written to the next member.

`replay` sends any MCAP file, with chunks and compression, too, at the distances of its `log_time`.

## Two processes, real data

![shmring demo: rates, checksums and round trips](img/demo-dark.png)

## Completion

```sh
echo 'eval "$(shmring completion bash)"' >> ~/.bashrc     # or zsh, fish
```

completes commands, options and the names of rings.
"""


def subparsers_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (action,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return dict(action.choices)


def make_page() -> str:
    """The whole page."""
    from shmring.cli import build_parser

    parser = build_parser()
    (action,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    rows = [f"| [`{each.dest}`](#shmring-{each.dest}) | {each.help} |" for each in action._choices_actions]
    table = "\n".join(["| command | what it is for |", "|---|---|", *rows])
    parts = [INTRODUCTION.replace("{table}", table).replace("{cost}", COST)]
    parts.append(f"## shmring\n\n```text\n{parser.format_help().rstrip()}\n```\n")
    for name, each in subparsers_of(parser).items():
        parts.append(f"## shmring {name}\n\n```text\n{each.format_help().rstrip()}\n```\n")
    return "\n".join(parts)


# 0.08 CPU seconds in 30 s beside 76,000 messages/s, on two busy cores of a virtual machine at 2.5 GHz.
COST = "0.3 %"

if __name__ == "__main__":
    (HERE / "cli.md").write_text(make_page())
