"""What an image classifier's graph looks like from outside: names and limits, no imports."""

IMAGE = "image"  # the input, uint8 (batch, height, width, 3) RGB
PIXEL_VALUES = "pixel_values"  # inside, float32 (batch, 3, H, W): where the preprocessing ends
LOGITS, PROBABILITIES = "logits", "probabilities"  # outputs, float32 (batch, classes)
EMBEDDING = "embedding"  # an output, float32 (batch, features): what a head is put on

# A protobuf message ends at 2 GiB; the rest of the graph needs a little of it.
MAX_INLINE_BYTES = (1 << 31) - (1 << 24)
