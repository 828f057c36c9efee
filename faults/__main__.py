"""python -m faults: the mutation suite from the command line."""

from __future__ import annotations

import os

# Before anything imports transformers or starts threads, which read these once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from faults.command import main

main()
