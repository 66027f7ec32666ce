"""The asset graph: thin wiring in flow order. `definitions.py` is the table of contents; logic is in `hindcast/`."""
