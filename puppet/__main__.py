"""`python -m puppet`."""

import os
import sys

# A frame's matrices are small: OpenBLAS's second thread only spins beside the tracker. Without it a frame takes 26
# instead of 42 ms of processor time, and two cores make 63 instead of 52 frames a second. Read when NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from puppet.cli import main

if __name__ == "__main__":
    sys.exit(main())
