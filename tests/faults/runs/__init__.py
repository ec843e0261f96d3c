"""One module for each group of faults; `rig/runs.py` says how one is added, and `figures.py` plays them."""
