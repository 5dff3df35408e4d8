"""python -m mnist_ff."""

import sys

from mnist_ff.cli import main

sys.exit(main())
