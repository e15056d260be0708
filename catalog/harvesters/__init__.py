"""Harvesters: what published packages say about their own models, as records."""
