"""Two unrelated processes share a NumPy array in a file, and one of them survives the file being cut."""

import os
import subprocess
import sys
import tempfile

import numpy as np

from shmring import Mapping
from shmring.errors import RingTruncated

OTHER = """
import sys
import numpy as np
from shmring import Mapping

with Mapping.file(sys.argv[1]) as mapping:
    np.frombuffer(mapping, np.int64)[:] *= 2
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "numbers")
        with Mapping.file(path, 80_000, create=True, exclusive=True) as mapping:
            print(f"{mapping.size} bytes asked, {mapping.mapped} mapped, {mapping.wasted} wasted")

            numbers = np.frombuffer(mapping, np.int64)
            numbers[:] = np.arange(10_000)
            subprocess.run([sys.executable, "-c", OTHER, path], check=True)
            print("the other process doubled them:", numbers[:5], "...", numbers[-1])
            mapping.flush()

            del numbers  # a live view would make close() and resize() raise BufferError
            mapping.resize(160_000)
            print("grown to", len(mapping), "bytes")

            os.truncate(path, 4096)
            try:
                mapping[100_000]
            except RingTruncated as error:
                print("still alive:", error.strerror.partition(".")[0])


if __name__ == "__main__":
    main()
