"""What people type and what they then want to see among the first five.

The pairs were written from the names in the catalog before any of these queries was asked. When
first asked, 82 % of those written before the ranking was tuned to this catalog were hits, and 93 %
of those written after. Where several records would content a user alike (the same weights from
several publishers), any of them is a hit; `*` stands for any letters.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from catalog.search import Catalog

NEEDED = 0.95

HITS: tuple[tuple[str, str], ...] = (
    # Names of models.
    ("resnet50", "torchvision/resnet50.IMAGENET1K_V2"),
    ("ResNet-50", "timm/resnet50.a1_in1k"),
    ("bert", "keras-hub/bert_base_en_uncased qai_hub_models/bert_base_uncased_hf"),
    ("bert base uncased", "keras-hub/bert_base_en_uncased qai_hub_models/bert_base_uncased_hf"),
    ("roberta", "keras-hub/roberta_base_en onnx/roberta-base-11"),
    ("distilbert", "keras-hub/distil_bert_base_en* qai_hub_models/distil_bert_base_uncased_hf"),
    ("gpt2", "keras-hub/gpt2_base_en onnx/gpt2-10 openvino/gpt-2"),
    ("t5", "keras-hub/t5_*_base"),
    ("llama 3", "keras-hub/llama3_8b_en keras-hub/llama3_instruct_8b_en"),
    ("mistral 7b", "keras-hub/mistral_7b_en keras-hub/mistral_0.3_7b_en"),
    ("gemma 2b", "keras-hub/gemma_2b_en keras-hub/gemma2_2b_en"),
    (
        "whisper",
        "keras-hub/whisper_base_* mteb/openai/whisper-* qai_hub_models/whisper_base",
    ),
    ("whisper tiny", "keras-hub/whisper_tiny_* mteb/openai/whisper-tiny"),
    ("clip", "open_clip/ViT-B-32/openai mteb/openai/clip-vit-base-patch* open_clip/ViT-*/openai"),
    ("openai clip", "open_clip/ViT-*/openai mteb/openai/clip-* qai_hub_models/openai_clip"),
    ("clip vit-b-32", "open_clip/ViT-B-32/*"),
    ("siglip", "mteb/google/siglip-base-patch16-224 mteb/google/siglip-* open_clip/*SigLIP*"),
    ("dinov2", "timm/vit_base_patch14_dinov2.lvd142m mteb/facebook/dinov2-base"),
    ("dinov3", "timm/vit_base_patch16_dinov3.lvd1689m mteb/facebook/dinov3-*"),
    ("mobilenet", "torchvision/mobilenet_v2.IMAGENET1K_V2 timm/mobilenetv3_large_100.ra_in1k"),
    ("mobilenet v3 small", "torchvision/mobilenet_v3_small.* timm/mobilenetv3_small_100.*"),
    ("efficientnet b0", "timm/efficientnet_b0.ra_in1k torchvision/efficientnet_b0.IMAGENET1K_V1"),
    ("vit b 16", "torchvision/vit_b_16.* timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"),
    ("vit large", "timm/vit_large_patch16_224.* torchvision/vit_l_16.*"),
    ("vgg 19", "torchvision/vgg19.IMAGENET1K_V1 keras/VGG19"),
    ("xception", "keras/Xception timm/legacy_xception.tf_in1k"),
    ("nasnet", "keras/NASNetLarge keras/NASNetMobile timm/nasnetalarge.tf_in1k"),
    ("inception resnet v2", "keras/InceptionResNetV2 timm/inception_resnet_v2.tf_in1k"),
    ("convnext", "torchvision/convnext_tiny.* timm/convnext_tiny.* keras/ConvNeXtTiny"),
    ("swin", "torchvision/swin_t.IMAGENET1K_V1 timm/swin_tiny_patch4_window7_224.*"),
    ("deit small", "timm/deit_small_patch16_224.fb_in1k"),
    ("yolov3", "mmdet/yolov3_d53_* onnx/yolov3-* openvino/yolo-v3-*"),
    ("yolov5 s", "mmyolo/yolov5_s-v61_*"),
    ("yolov8", "mmyolo/yolov8_* qai_hub_models/yolov8_det"),
    ("yolox tiny", "mmdet/yolox_tiny_8x8_300e_coco openvino/yolox-tiny"),
    (
        "faster rcnn",
        "torchvision/fasterrcnn_resnet50_fpn.COCO_V1 mmdet/faster-rcnn_r50_fpn_1x_coco",
    ),
    ("mask r-cnn", "torchvision/maskrcnn_resnet50_fpn.COCO_V1 mmdet/mask-rcnn_r50_fpn_*"),
    ("retinanet", "torchvision/retinanet_resnet50_fpn.COCO_V1 mmdet/retinanet_r50_fpn_1x_coco"),
    ("detr", "mmdet/detr_r50_8xb2-150e_coco openvino/detr-resnet50 qai_hub_models/detr_resnet50"),
    ("segformer b0", "mmsegmentation/segformer_mit-b0_* keras-hub/segformer_b0_*"),
    ("segment anything", "keras-hub/sam_*_sa1b qai_hub_models/sam* mmpretrain/*_sam-pre_*"),
    ("sam2", "qai_hub_models/sam2 timm/sam2_hiera_*"),
    ("wav2vec2", "torchaudio/WAV2VEC2_BASE mteb/facebook/wav2vec2-base openvino/wav2vec2-base"),
    ("hubert", "torchaudio/HUBERT_BASE mteb/facebook/hubert-base-ls960"),
    ("all-MiniLM-L6-v2", "*/all-MiniLM-L6-v2 keras-hub/all_minilm_l6_v2_en"),
    ("bge small", "*/BAAI/bge-small-en-v1.5 */BAAI/bge-small-en keras-hub/bge_small_*en"),
    ("multilingual e5", "*/multilingual-e5-* keras-hub/multilingual_e5_*"),
    ("labse", "mteb/sentence-transformers/LaBSE"),
    ("tacotron 2", "torchaudio/TACOTRON2_* coqui/tts_models/en/ljspeech/tacotron2-*"),
    ("hifigan", "nemo/tts_en_hifigan coqui/vocoder_models/*hifigan*"),
    ("stable diffusion", "keras-hub/stable_diffusion_* qai_hub_models/stable_diffusion_*"),
    ("esrgan", "mmagic/esrgan_* mmagic/realesrgan_* qai_hub_models/*esrgan*"),
    ("stylegan2", "mmagic/stylegan2_*"),
    ("raft", "torchvision/raft_large.C_T_SKHT_V2"),
    ("slowfast", "mmaction2/slowfast_r50_*_kinetics400-rgb"),
    ("hrnet pose", "mmpose/*hrnet* qai_hub_models/hrnet_pose openvino/*hrnet*pose*"),
    ("pointpillars", "mmdet3d/*pointpillars*"),
    # Tasks in plain words.
    ("sentiment", "keras-hub/bert_tiny_en_uncased_sst2 onnx/roberta-sequence-classification-9"),
    (
        "face recognition",
        "openvino/face-recognition-resnet100-arcface-onnx onnx/arcfaceresnet100-*",
    ),
    ("face detection", "openvino/face-detection-* openvino/*face*"),
    (
        "remove background",
        "openvino/background-matting-* openvino/modnet-* torchvision/deeplabv3_*",
    ),
    ("speech to text", "keras-hub/whisper_* nemo/stt_en_* torchaudio/WAV2VEC2_ASR_*"),
    ("text to speech english", "nemo/tts_en_* coqui/tts_models/en/* openvino/text-to-speech-en-*"),
    ("translate german to english", "qai_hub_models/opus_mt_de_en openvino/machine-*-de-en-*"),
    ("depth estimation", "keras-hub/depth_anything_* */midas* qai_hub_models/depth_anything*"),
    ("image captioning", "mmpretrain/*_caption keras-hub/blip2_*"),
    ("ocr", "mmocr/* openvino/text-recognition-* qai_hub_models/*ocr"),
    (
        "super resolution",
        "mmagic/*srgan* openvino/*super-resolution-* mmagic/swinir_* mmagic/edsr*",
    ),
    (
        "human pose estimation",
        "openvino/*human-pose-estimation* mmpose/td-hm_* torchvision/keypointrcnn_*",
    ),
    ("license plate", "openvino/*license-plate-*"),
    ("optical flow", "torchvision/raft_large.* mmflow/*"),
    ("speaker verification", "nemo/titanet_* nemo/ecapa_tdnn nemo/speakerverification_*"),
    ("voice activity detection", "nemo/vad_* qai_hub_models/silero_vad"),
    ("named entity recognition", "openvino/bert-base-ner"),
    ("question answering", "openvino/bert-*squad* onnx/bertsquad-* onnx/bidaf-*"),
    ("summarize text", "keras-hub/bart_large_en_cnn"),
    ("reranker", "*/BAAI/bge-reranker-* *rerank*"),
    ("satellite images", "torchgeo/*"),
    ("handwriting recognition", "openvino/handwritten-*"),
    ("age gender", "openvino/age-gender-recognition-retail-0013"),
    ("video action recognition", "torchvision/r3d_18.* mmaction2/* openvino/*action-recognition*"),
    ("sentence embedding", "*/all-MiniLM-L6-v2 */all-mpnet-base-v2 *MiniLM* *sentence* */bge-*"),
    # Misspelt.
    ("efficentnet", "*/efficientnet_b0* keras/EfficientNetB0 openvino/efficientnet-b0"),
    ("reznet50", "torchvision/resnet50.* timm/resnet50.*"),
    ("moblienet v2", "torchvision/mobilenet_v2.* timm/mobilenetv2_100.* keras/MobileNetV2*"),
    ("wisper", "keras-hub/whisper_* mteb/openai/whisper-* qai_hub_models/whisper_*"),
    ("densnet121", "torchvision/densenet121.IMAGENET1K_V1 keras/DenseNet121"),
    ("segfromer", "mmsegmentation/segformer_* keras-hub/segformer_*"),
    # More than one thing at once.
    ("resnet50 coco detection", "torchvision/*resnet50_fpn*.COCO_V1 mmdet/*_r50_*coco"),
    ("mobile image classifier", "*/mobilenet*"),
    ("quantized resnet50", "torchvision/quantized_resnet50.* onnx/resnet50-v1-12-int8"),
    ("keras efficientnet b0", "keras/EfficientNetB0"),
    ("onnx mobilenet v2", "onnx/mobilenetv2-*"),
    ("spanish speech recognition", "nemo/stt_es_* torchaudio/VOXPOPULI_ASR_BASE_10K_ES"),
    ("resnet50 sentinel2", "torchgeo/ResNet50_Weights.SENTINEL2_*"),
    (
        "cityscapes segmentation deeplabv3",
        "mmsegmentation/deeplabv3*cityscapes* pytorchcv/deeplabv3*",
    ),
    ("efficientnet lite0 pypi", "pypi/efficientnet-lite0"),
    ("chinese text embedding", "*/bge-*-zh* mteb/*chinese* keras-hub/bge_*_zh *zh*"),
    ("imagenet-21k vit", "timm/vit_*in21k* keras-hub/vit_*imagenet21k"),
    # Written, all kinds, after the ranking had been tuned on those above.
    ("resnet 101", "torchvision/resnet101.IMAGENET1K_V2 timm/resnet101.a1h_in1k"),
    ("albert base", "keras-hub/albert_base_en_uncased qai_hub_models/albert_base_v2_hf"),
    ("electra", "keras-hub/electra_* qai_hub_models/electra*"),
    ("deberta v3", "keras-hub/deberta_v3_*"),
    ("xlm roberta", "keras-hub/xlm_roberta_* mteb/FacebookAI/xlm-roberta-*"),
    ("phi 4 mini", "qai_hub_models/phi_4_mini_instruct"),
    ("qwen3 embedding", "mteb/Qwen/Qwen3-Embedding-* fastembed/Qwen/Qwen3-Embedding*"),
    ("nomic embed text", "*/nomic-embed-text-v1* qai_hub_models/nomic_embed_text"),
    ("gte modernbert", "mteb/Alibaba-NLP/gte-modernbert-base"),
    ("splade", "fastembed/*plade* mteb/*splade*"),
    ("colbert", "fastembed/colbert-ir/colbertv2.0 *colbert* *ColBERT*"),
    ("efficientnet v2 s", "torchvision/efficientnet_v2_s.IMAGENET1K_V1 keras/EfficientNetV2S"),
    ("shufflenet", "torchvision/shufflenet_v2_x1_0.IMAGENET1K_V1"),
    ("squeezenet", "torchvision/squeezenet1_1.IMAGENET1K_V1"),
    ("mobilevit", "timm/mobilevit_s.cvnets_in1k qai_hub_models/mobile_vit"),
    ("regnety 16gf", "torchvision/regnet_y_16gf.*"),
    ("beit base", "timm/beit_base_patch16_224.* mmpretrain/beit-base*"),
    ("eva02", "timm/eva02_* open_clip/EVA02*"),
    ("maxvit tiny", "torchvision/maxvit_t.* timm/maxvit_tiny_*"),
    ("fcos", "torchvision/fcos_resnet50_fpn.COCO_V1 mmdet/fcos_r50*"),
    ("rtmdet tiny", "mmdet/rtmdet_tiny_8xb32-300e_coco mmyolo/rtmdet_tiny_*"),
    ("mask2former", "mmdet/mask2former_* mmsegmentation/mask2former_* qai_hub_models/mask2former"),
    (
        "pspnet",
        "mmsegmentation/pspnet_* pytorchcv/pspnet_* openvino/pspnet-pytorch qai_hub_models/pspnet",
    ),
    ("unet", "mmsegmentation/unet-* qai_hub_models/unet_segmentation openvino/unet-*"),
    ("dbnet", "mmocr/dbnet_*"),
    ("trocr", "qai_hub_models/trocr"),
    ("yamnet", "qai_hub_models/yamnet mteb/google/yamnet"),
    ("clap audio", "mteb/laion/clap-* mteb/laion/larger_clap* mteb/microsoft/msclap*"),
    ("wavlm large", "torchaudio/WAVLM_LARGE mteb/microsoft/wavlm-large"),
    ("titanet", "nemo/titanet_*"),
    ("xtts", "coqui/*xtts*"),
    ("vits german", "coqui/tts_models/de/*vits*"),
    ("noise suppression", "openvino/noise-suppression-*"),
    ("source separation", "torchaudio/*DEMUCS* torchaudio/CONVTASNET*"),
    (
        "style transfer",
        "onnx/mosaic-* onnx/candy-* openvino/fast-neural-style-* onnx/rain-* onnx/udnie-*",
    ),
    (
        "colorize black and white photos",
        "openvino/colorization-* mmagic/inst-colorizatioon* qai_hub_models/ddcolor",
    ),
    (
        "person re-identification",
        "openvino/person-reidentification-* mmpretrain/*market* mmtrack/*reid*",
    ),
    ("gaze estimation", "openvino/gaze-estimation-adas-0002 qai_hub_models/eyegaze"),
    ("vehicle detection", "openvino/vehicle-detection-*"),
    ("object tracking", "mmtrack/* mmdet/bytetrack_* mmdet/ocsort* mmdet/*sort*"),
    ("3d object detection", "mmdet3d/*"),
    ("text generation", "keras-hub/*"),
    ("zero shot image classification", "open_clip/* mteb/openai/clip-*"),
    ("visual question answering", "mmpretrain/*_vqa"),
    ("text to image", "keras-hub/stable_diffusion_* mmagic/* qai_hub_models/stable*"),
    ("hand gesture", "qai_hub_models/mediapipe_hand_gesture"),
    ("emotion", "openvino/emotions-recognition-retail-0003 onnx/emotion-ferplus-*"),
    ("time series forecasting", "openvino/time-series-forecasting-electricity-0001"),
    ("brain tumor", "openvino/brain-tumor-segmentation-0002"),
    ("handwritten digits", "onnx/mnist-*"),
    ("reznet 18", "torchvision/resnet18.* timm/resnet18.*"),
    ("vgg-16", "torchvision/vgg16.IMAGENET1K_V1 keras/VGG16"),
    ("inceptoin v3", "torchvision/inception_v3.IMAGENET1K_V1 keras/InceptionV3"),
    ("rorberta", "keras-hub/roberta_base_en onnx/roberta-base-11"),
    ("deeplab v3", "torchvision/deeplabv3_* openvino/deeplabv3 mmsegmentation/deeplabv3_*"),
    ("cifar10 resnet", "pytorchcv/resnet*_cifar10 mmpretrain/resnet*cifar10"),
    ("ade20k segmentation", "mmsegmentation/*ade20k* keras-hub/segformer_*_ade20k*"),
    ("japanese speech recognition", "espnet/*"),
    ("multilingual sentence embedding", "*multilingual*"),
    ("clip laion2b", "open_clip/*laion2b* timm/*laion2b*"),
)


def hit(catalog: Catalog, text: str, wanted: str) -> bool:
    found = [record.uid for record in catalog.search(text, limit=5).items]
    return any(fnmatchcase(uid, pattern) for uid in found for pattern in wanted.split())


def test_what_people_type_finds_what_they_want(tmp_path: Path) -> None:
    catalog = Catalog.open(tmp_path)
    misses = [text for text, wanted in HITS if not hit(catalog, text, wanted)]
    rate = 1 - len(misses) / len(HITS)
    assert len(HITS) >= 60
    assert len(dict(HITS)) == len(HITS)
    assert rate >= NEEDED, f"{rate:.1%} of {len(HITS)} hit; missed: {', '.join(misses)}"
