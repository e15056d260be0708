"""What a graph looks like from outside: names and limits, no imports."""

IMAGE = "image"  # an input, uint8 (batch, height, width, 3) RGB
PIXEL_VALUES = "pixel_values"  # inside, float32 (batch, 3, H, W): where the preprocessing ends
# Inputs of a text encoder, int64 (batch, sequence).
INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS = "input_ids", "attention_mask", "token_type_ids"
# What the networks themselves are given, behind any preprocessing.
INPUTS = (PIXEL_VALUES, INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS)
# An output of a text encoder, float32 (batch, sequence, width).
TOKEN_EMBEDDINGS = "token_embeddings"  # noqa: S105 - no password
TOKENIZER = "tokenizer.json"  # beside the graph of a text model
LOGITS, PROBABILITIES = "logits", "probabilities"  # outputs, float32 (batch, classes)
PREDICTIONS = "predictions"  # an output, float32 (batch, numbers), of a model of measured numbers
# An output, float32 (batch, classes), of an embedding: cosines with the mean of each known class.
SIMILARITIES = "similarities"
SCORE = "score"  # what the only class of a model is called that rates texts
# Outputs of a segmentation network: `logits` are (batch, classes, height, width) then, and the
# number of each pixel's class is uint8 (batch, height, width), of the photo's own size.
CLASS_MAP = "class_map"
# Outputs of a detector, for the one photo it is given: float32 (found, 4) corners in its pixels,
# int64 and float32 (found,), float32 (found, 28, 28) within the boxes, (found, points, 3) and
# (found, points).
BOXES, NUMBERS, SCORES, MASKS = "boxes", "labels", "scores", "masks"
KEYPOINTS, KEYPOINT_SCORES = "keypoints", "keypoint_scores"
EMBEDDING = "embedding"  # an output, float32 (batch, features): what a head is put on

BATCH_SIZES = (1, 2, 5)  # of the batches that a graph is checked with; it was traced with 2

# A protobuf message ends at 2 GiB; the rest of the graph needs a little of it.
MAX_INLINE_BYTES = (1 << 31) - (1 << 24)
