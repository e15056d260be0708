"""A new head on a pretrained backbone, measured, exported and reported."""
