"""From weights to a loaded module, to ONNX that computes the same, to running it."""
