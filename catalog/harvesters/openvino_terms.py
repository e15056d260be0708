"""What Open Model Zoo writes -> what the catalog writes."""

from __future__ import annotations

from catalog.record import Modality

TASKS: dict[str, tuple[str | None, Modality]] = {
    "action_recognition": ("video-classification", "video"),
    "background_matting": ("image-segmentation", "image"),
    "classification": ("image-classification", "image"),
    "colorization": ("image-to-image", "image"),
    "detection": ("object-detection", "image"),
    "face_recognition": ("image-feature-extraction", "image"),
    "feature_extraction": ("image-feature-extraction", "image"),
    "head_pose_estimation": (None, "image"),
    "human_pose_estimation": ("keypoint-detection", "image"),
    "image_inpainting": ("image-to-image", "image"),
    "image_processing": ("image-to-image", "image"),
    "image_translation": ("image-to-image", "image"),
    "instance_segmentation": ("image-segmentation", "image"),
    "machine_translation": ("translation", "text"),
    "monocular_depth_estimation": ("depth-estimation", "image"),
    "named_entity_recognition": ("token-classification", "text"),
    "noise_suppression": ("audio-to-audio", "audio"),
    "object_attributes": ("image-classification", "image"),
    "optical_character_recognition": ("image-to-text", "image"),
    "place_recognition": ("image-feature-extraction", "image"),
    "question_answering": ("question-answering", "text"),
    "salient_object_detection": ("image-segmentation", "image"),
    "semantic_segmentation": ("image-segmentation", "image"),
    "sound_classification": ("audio-classification", "audio"),
    "speech_recognition": ("automatic-speech-recognition", "audio"),
    "style_transfer": ("image-to-image", "image"),
    "text_prediction": ("text-generation", "text"),
    "text_to_speech": ("text-to-speech", "text"),
    "time_series": ("time-series-forecasting", "tabular"),
    "token_recognition": ("image-to-text", "image"),
}
# `object_attributes` is also said of these, told apart by their names.
ATTRIBUTES: tuple[tuple[str, str | None], ...] = (
    (r"reid|retrieval", "image-feature-extraction"),
    (r"landmarks", "keypoint-detection"),
    (r"gaze|head-pose", None),
)

FRAMEWORKS = {"dldt": "openvino", "tf": "tensorflow"}

# Weights and graphs; vocabularies, configurations and code that come along are no weights, and
# many models share them. None is the framework of the model.
FORMATS: dict[str, tuple[str | None, bool | None]] = {
    ".bin": ("openvino", True),
    ".ckpt": (None, None),
    ".gz": ("archive", None),
    ".h5": ("keras", None),
    ".hdf5": ("keras", None),
    ".nemo": ("nemo", None),
    ".onnx": ("onnx", True),
    ".pb": ("tensorflow", None),
    ".pbmm": ("tensorflow", None),
    ".pt": ("pytorch", False),
    ".pth": ("pytorch", False),
    ".pyth": ("pytorch", False),
    ".tgz": ("archive", None),
    ".weights": ("darknet", None),
    ".xml": ("openvino", True),
    ".zip": ("archive", None),
    "": (None, None),
}

# Of accuracy-check.yml: metric -> ours, whether it is a fraction to give in percent, whether more
# is better.
METRICS: dict[str, tuple[str, bool, bool]] = {
    "accuracy": ("accuracy", True, True),
    "bleu": ("bleu", True, True),
    "character_recognition_accuracy": ("accuracy", True, True),
    "clip_accuracy": ("top1", True, True),
    "coco_orig_keypoints_precision": ("keypoint_map", True, True),
    "coco_orig_precision": ("box_map", True, True),
    "coco_orig_segm_precision": ("mask_map", True, True),
    "coco_precision": ("box_map", True, True),
    "detection_accuracy": ("accuracy", True, True),
    "exact_match": ("exact_match", True, True),
    "f1": ("f1", True, True),
    "f1-score": ("f1", True, True),
    "focused_text_hmean": ("hmean", True, True),
    "im2latex_match_images_metric": ("accuracy", True, True),
    "incidental_text_hmean": ("hmean", True, True),
    "label_level_recognition_accuracy": ("accuracy", True, True),
    "mae": ("mae", False, False),
    "map": ("map", True, True),
    "mean_accuracy": ("mean_accuracy", True, True),
    "mean_iou": ("mean_iou", True, True),
    "ner_accuracy": ("accuracy", True, True),
    "ner_f_score": ("f1", True, True),
    "normed_error": ("normed_error", False, False),
    "pairwise_accuracy_subsets": ("accuracy", True, True),
    "psnr": ("psnr", False, True),
    "reid_map": ("map", True, True),
    "rmse": ("rmse", False, False),
    "segmentation_accuracy": ("pixel_accuracy", True, True),
    "ssim": ("ssim", False, True),
    "wer": ("wer", True, False),
}
MANY = 4  # evaluations kept of one model

# These two READMEs give the multiply-accumulates of the paper (2.54 and 6.10), not twice them.
MACS_ALREADY = {"efficientdet-d0-tf", "efficientdet-d1-tf"}

# model.yml says `named_entity_recognition` of this one.
MISLABELED = {"wav2vec2-base": "speech_recognition"}

# Bytes a parameter takes in fp32 weights: one copy or less where they are compressed, several where
# the file has the optimizer's or the same weights in many forms. Some READMEs have the figures of
# another model; these show in that the file cannot hold them.
BYTES_A_PARAMETER = (3, 30)

# The first word of a name that says what the model is for, not what it is.
PURPOSES = frozenset(
    """
    action age anti asl background common driver emotions face facial facenet formula gaze
    handwritten head horizontal human icnet image instance landmarks license machine mozilla noise
    open pedestrian person place product road semantic single smartlab sound text time vehicle
    weld drone action colorization forward aclnet
    """.split()  # noqa: SIM905
)
