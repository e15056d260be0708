"""Training through a backbone in torch: its upper part, on what its lower part says once."""
