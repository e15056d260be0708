"""Which architectures convert: one small member of every family, with random living weights."""
