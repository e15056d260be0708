"""What Qualcomm AI Hub Models writes -> what the catalog writes."""

from __future__ import annotations

from catalog.record import Modality

USE_CASES: dict[str, str | None] = {
    "Audio Classification": "audio-classification",
    "Audio Generation": "text-to-speech",
    "Depth Estimation": "depth-estimation",
    "Driver Assistance": "object-detection",
    "Image Classification": "image-classification",
    "Image Editing": "image-to-image",
    "Image Generation": "text-to-image",
    "Image To Text": "image-to-text",
    "Object Detection": "object-detection",
    "Pose Estimation": "keypoint-detection",
    "Semantic Segmentation": "image-segmentation",
    "Speech Recognition": "automatic-speech-recognition",
    "Super Resolution": "image-to-image",
    "Text Generation": "text-generation",
    "Video Classification": "video-classification",
    "Video Generation": "image-to-video",
    "Voice Activity Detection": "voice-activity-detection",
}
# A use case holds more than its name says; these are told apart by names and templates.
NARROWER: tuple[tuple[str, str | None], ...] = (
    (r"opus_mt", "translation"),
    (r"minilm|nomic_embed", "sentence-similarity"),
    (r"electra", "feature-extraction"),
    (r"bert", "fill-mask"),
    (r"\bvlm\b|_vl_|_vlm|smolvlm", "image-text-to-text"),
    (r"clip$|siglip", "zero-shot-image-classification"),
    (r"\bowl\b|yolo_world|wedetect", "zero-shot-object-detection"),
    (r"cavaface|facenet|osnet", "image-feature-extraction"),
    (r"face_attrib", "image-classification"),
    (r"hrnet_face", "keypoint-detection"),
    (r"\bsam2?\b|sam3|fastsam|track_anything", "mask-generation"),
    (r"cvt|gkt|rangenet", "image-segmentation"),
    (r"statetransformer", None),
)
MODALITIES: dict[str, Modality] = {
    "Audio": "audio",
    "Computer Vision": "image",
    "Generative AI": "text",
    "Multimodal": "multimodal",
}

# Name -> ours, unit, whether more is better.
METRICS: dict[str, tuple[str, str | None, bool]] = {
    "Accuracy": ("accuracy", "%", True),
    "Average Recall": ("average_recall", "%", True),
    "Delta Threshold Accuracy": ("delta1", "%", True),
    "Grace2": ("grace2", "%", True),
    "Mean Absolute Error": ("mae", None, False),
    "Mean Angular Error": ("mean_angular_error", "degrees", False),
    "Mean Average Precision": ("map", "%", True),
    "Mean Intersection Over Union": ("mean_iou", "%", True),
    "Normalized Mean Error": ("normalized_mean_error", None, False),
    "Panoptic Quality": ("panoptic_quality", "%", True),
    "Peak Signal-to-Noise Ratio (PSNR)": ("psnr", "dB", True),
    "Recall@1": ("recall1", "%", True),
    "Structural Similarity": ("ssim", None, True),
    "Top-1 Accuracy": ("top1", "%", True),
    "Word Error Rate": ("wer", "%", False),
}
LANGUAGES = {
    "arabic": "ar",
    "chinese": "zh",
    "dutch": "nl",
    "english": "en",
    "french": "fr",
    "german": "de",
    "hindi": "hi",
    "indonesian": "id",
    "italian": "it",
    "japanese": "ja",
    "korean": "ko",
    "portuguese": "pt",
    "russian": "ru",
    "spanish": "es",
    "thai": "th",
}
SCALES = {"K": 1e3, "M": 1e6, "B": 1e9, "": 1.0}
# `imagenet-22k` is listed of every ImageNet classifier, torchvision's ResNet-18 too; the others
# are test sets.
NOT_TRAINED_ON = frozenset(["imagenet-21k", "set14", "bsd300", "bsds300", "lfw", "hpatches"])
TRAINED_ON = frozenset(["imagenet-1k", "coco", "cityscapes", "ade20k", "kinetics-400"])
