"""The `tlhub` command, a thin skin over the Python API."""
