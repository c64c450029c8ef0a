"""`python -m puppet`."""

import os
import sys

# A frame's matrices are small: OpenBLAS's second thread only spins beside the tracker. Without it a frame takes 26
# instead of 42 ms of processor time, and two cores make 63 instead of 52 frames a second. Read when NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Torch's threads wait for each other at every layer. By default they spin meanwhile; where a call, a browser and the
# tracker want the cores too, a texture network then takes 250 instead of 17 ms of processor time. Read by libgomp.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from puppet.cli import main

if __name__ == "__main__":
    sys.exit(main())
