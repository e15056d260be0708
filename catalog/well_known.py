"""The weights that people mean when they say little: chosen by hand, they come first."""

from __future__ import annotations

# What people mean when they name no more than a family, in timm's and torchvision's spelling.
WELL_KNOWN = frozenset(
    """
    alexnet convnext_tiny convnextv2_tiny deeplabv3_resnet50 deit_small_patch16_224 densenet121
    efficientnet_b0 efficientnet_v2_s fasterrcnn_resnet50_fpn fcn_resnet50 ghostnet_100 googlenet
    inception_v3 keypointrcnn_resnet50_fpn legacy_xception maskrcnn_resnet50_fpn maxvit_t
    mobilenet_v2 mobilenet_v3_large mobilenet_v3_small mobilenetv2_100 mobilenetv3_large_100
    mobilenetv3_small_100 mobilenetv4_conv_small mobilevit_s r3d_18 regnety_032 repvgg_a0
    resnet101 resnet18 resnet50 resnext50_32x4d
    shufflenet_v2_x1_0 squeezenet1_1 swin_t swin_tiny_patch4_window7_224 tf_efficientnet_lite0
    vgg16 vit_b_16 vit_base_patch16_224 vit_base_patch14_dinov2 vit_small_patch14_dinov2
    wide_resnet50_2
    """.split()  # noqa: SIM905  (one name a line would be no easier to read)
)

# A name -> the weights that people mean by it when they say no more.
_MEANT: dict[str, tuple[str, ...]] = {
    "audioclassification": ("qai_hub_models/yamnet", "openvino/aclnet"),
    "bert": ("keras-hub/bert_base_en_uncased", "qai_hub_models/bert_base_uncased_hf"),
    "bge": ("fastembed/BAAI/bge-small-en-v1.5", "mteb/BAAI/bge-m3"),
    "bart": ("keras-hub/bart_base_en",),
    "clip": ("open_clip/ViT-B-32/openai", "mteb/openai/clip-vit-base-patch32"),
    "deberta": ("keras-hub/deberta_v3_base_en",),
    "depthanything": ("keras-hub/depth_anything_v2_small",),
    "detr": ("mmdet/detr_r50_8xb2-150e_coco", "qai_hub_models/detr_resnet50"),
    "dino": (
        "timm/vit_small_patch16_224.dino",
        "timm/vit_base_patch14_dinov2.lvd142m",
        "timm/vit_small_patch14_dinov2.lvd142m",
    ),
    "dinov2": ("timm/vit_base_patch14_dinov2.lvd142m", "timm/vit_small_patch14_dinov2.lvd142m"),
    "dinov3": ("timm/vit_base_patch16_dinov3.lvd1689m",),
    "distilbert": ("keras-hub/distil_bert_base_en_uncased",),
    "e5": ("mteb/intfloat/e5-base-v2", "mteb/intfloat/multilingual-e5-base"),
    "esrgan": ("mmagic/realesrgan_c64b23g32_4xb12-lr1e-4-400k_df2k-ost",),
    "gemma": ("keras-hub/gemma_2b_en", "keras-hub/gemma2_2b_en"),
    "gpt2": ("keras-hub/gpt2_base_en", "onnx/gpt2-10"),
    "hubert": ("torchaudio/HUBERT_BASE",),
    "llama": ("keras-hub/llama3_8b_en",),
    "llama2": ("keras-hub/llama2_7b_en",),
    "llama3": ("keras-hub/llama3_8b_en", "keras-hub/llama3_instruct_8b_en"),
    "mae": ("timm/vit_base_patch16_224.mae",),
    "maskrcnn": ("torchvision/maskrcnn_resnet50_fpn.COCO_V1", "mmdet/mask-rcnn_r50_fpn_1x_coco"),
    "mobilenetv3": (
        "timm/mobilenetv3_large_100.ra_in1k",
        "torchvision/mobilenet_v3_large.IMAGENET1K_V2",
    ),
    "mobilenetv3large": (
        "timm/mobilenetv3_large_100.ra_in1k",
        "torchvision/mobilenet_v3_large.IMAGENET1K_V2",
    ),
    "minilm": ("mteb/sentence-transformers/all-MiniLM-L6-v2",),
    "mistral": ("keras-hub/mistral_7b_en",),
    "mpnet": ("mteb/sentence-transformers/all-mpnet-base-v2",),
    "retinanet": ("torchvision/retinanet_resnet50_fpn.COCO_V1", "mmdet/retinanet_r50_fpn_1x_coco"),
    "roberta": ("keras-hub/roberta_base_en",),
    "sam": ("keras-hub/sam_base_sa1b",),
    "sbert": (
        "mteb/sentence-transformers/all-MiniLM-L6-v2",
        "mteb/sentence-transformers/all-mpnet-base-v2",
    ),
    "segformer": ("mmsegmentation/segformer_mit-b0_8xb2-160k_ade20k-512x512",),
    "segmentanything": ("keras-hub/sam_base_sa1b", "qai_hub_models/sam2"),
    "siglip": ("mteb/google/siglip-base-patch16-224", "mteb/google/siglip2-base-patch16-224"),
    "slowfast": ("mmaction2/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb",),
    "speechtotext": (
        "keras-hub/whisper_base_en",
        "keras-hub/whisper_small_multi",
        "nemo/stt_en_conformer_ctc_large",
        "torchaudio/WAV2VEC2_ASR_BASE_960H",
    ),
    "ssd": ("torchvision/ssd300_vgg16.COCO_V1",),
    "stablediffusion": ("keras-hub/stable_diffusion_3.5_medium",),
    "t5": ("keras-hub/t5_1.1_base",),
    "tacotron2": (
        "torchaudio/TACOTRON2_WAVERNN_CHAR_LJSPEECH",
        "coqui/tts_models/en/ljspeech/tacotron2-DDC",
    ),
    "texttospeech": ("nemo/tts_en_fastpitch", "coqui/tts_models/en/ljspeech/vits"),
    "translation": (
        "opus_mt/de-en",
        "opus_mt/en-de",
        "opus_mt/en-es",
        "opus_mt/en-fr",
        "opus_mt/fr-en",
    ),
    "unet": ("mmsegmentation/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024",),
    "visiontransformer": (
        "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "torchvision/vit_b_16.IMAGENET1K_V1",
    ),
    "vitb16": (
        "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "torchvision/vit_b_16.IMAGENET1K_V1",
    ),
    "vitbase": (
        "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "torchvision/vit_b_16.IMAGENET1K_V1",
    ),
    "vitlarge": (
        "timm/vit_large_patch16_224.augreg_in21k_ft_in1k",
        "torchvision/vit_l_16.IMAGENET1K_V1",
    ),
    "wav2vec2": ("torchaudio/WAV2VEC2_BASE", "torchaudio/WAV2VEC2_ASR_BASE_960H"),
    "whisper": ("keras-hub/whisper_base_multi", "mteb/openai/whisper-base"),
    "xlmroberta": ("keras-hub/xlm_roberta_base_multi",),
    "yolo": ("mmyolo/yolov8_s_syncbn_fast_8xb16-500e_coco", "qai_hub_models/yolov8_det"),
    "yolov3": ("mmdet/yolov3_d53_mstrain-608_273e_coco",),
    "yolov5": ("mmyolo/yolov5_s-v61_syncbn_fast_8xb16-300e_coco",),
    "yolov8": ("mmyolo/yolov8_s_syncbn_fast_8xb16-500e_coco", "qai_hub_models/yolov8_det"),
    "yolox": ("mmdet/yolox_s_8x8_300e_coco",),
}
# A uid -> the names that mean it.
CALLED: dict[str, tuple[str, ...]] = {
    uid: tuple(name for name, meant in _MEANT.items() if uid in meant)
    for uid in sorted({uid for meant in _MEANT.values() for uid in meant})
}
