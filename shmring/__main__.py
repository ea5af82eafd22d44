"""`python -m shmring`: the same as the console script `shmring`."""

import sys

from shmring.cli import main

sys.exit(main())
