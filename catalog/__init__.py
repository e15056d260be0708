"""Records of pretrained models: what they are, the index over them, and search."""
