"""The commands: each module is one experiment and reads as its steps."""

import os
import sys

# LAPACK draws the orthogonal initialization, and with several threads its bits depend on how many
# there are. Read when SciPy is imported: by a command, not in a process that has it already.
if "numpy" not in sys.modules:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
