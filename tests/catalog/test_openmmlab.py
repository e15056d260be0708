from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import pytest

from catalog.errors import IntegrityError
from catalog.harvesters.openmmlab import harvest
from catalog.harvesters.openmmlab_figures import dataset_of, datasets_of
from catalog.harvesters.openmmlab_names import architecture_of, dataset_in, size_in
from catalog.record import ModelRecord, decode, encode
from catalog.tasks import TASKS

HOST = "https://weights.example.org"

CLASSIFIERS = """\
Collections:
  - Name: FooNet
    Metadata: {Training Data: ImageNet-1k, Architecture: [Foo Block]}
    Paper: {URL: 'https://arxiv.org/abs/2101.00001v2', Title: Foo}
Models:
  - Name: foonet50_8xb32_in1k-320px
    In Collection: FooNet
    Config: configs/foonet/foonet50_8xb32_in1k-320px.py
    Metadata: {FLOPs: 4100000000, Parameters: 25000000}
    Results:
      - {Dataset: ImageNet-1k, Task: Image Classification,
         Metrics: {Top 1 Accuracy: 77.5, Top 5 Accuracy: 93.5}}
    Weights: %(host)s/foonet50_8xb32_in1k-320px_20210831-0123abcd.pth
  - Name: foonet-base_in21k-pre-3rdparty_in1k
    In Collection: FooNet
    Config: configs/foonet/gone.py
    Metadata: {FLOPs: null, Parameters: 88.5M, Training Data: [ImageNet-21k, ImageNet-1k]}
    Results: [{Dataset: ImageNet-1k, Task: Image Classification, Metrics: {Top 1 Accuracy: 85}}]
    Converted From: {Weights: 'https://huggingface.co/foo/foonet', Code: 'https://foo.example'}
    Weights: %(host)s/foonet-base_in21k-pre-3rdparty_in1k_20220101.pth
  - Name: foonet50_selfsup-pre
    In Collection: FooNet
    Results: null
    Weights: %(host)s/foonet50_selfsup-pre_20220101-89abcdef.pth
  - A broken entry
  - Name: foonet_nowhere
    Weights: <>
  - Name: foonet_mangled
    Results: [{Dataset: ImageNet-1k, Task: Image Classification, Metrics: 7}]
    Metadata: [not, a, mapping]
    Weights: (%(host)s/foonet_mangled-00000000.pth
"""

DETECTORS = """\
Models:
  - Name: bar-rcnn_r50_fpn_1x_coco
    Metadata:
      inference time (ms/im): [{value: 50, hardware: V100, resolution: '(800, 1333)'}]
    Results:
      - {Task: Object Detection, Dataset: COCO, Metrics: {box AP: 40.5}}
      - {Task: Instance Segmentation, Dataset: COCO, Metrics: {mask AP: 36.5}}
    Weights: %(host)s/bar_rcnn_r50_fpn_1x_coco/bar_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth
  - Name: bar-rcnn_r101_fpn_2x_coco  # pasted: the address is that of the entry above
    Results: [{Task: Object Detection, Dataset: COCO, Metrics: {box AP: 43}}]
    Weights: %(host)s/bar_rcnn_r50_fpn_1x_coco/bar_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth
  - Name: barnet_s_voc
    Results: [{Task: Object Detection, Dataset: COCO, Metrics: {box AP: 70}}]
    Weights: %(host)s/barnet_s_voc_20200205-11111111.pth
  - Name: trackbar_mot17
    Results: [{Task: Multiple Object Tracking, Dataset: MOT17, Metrics: {MOTA: 60}}]
    Weights:
      - %(host)s/bar-rcnn_r50_mot17-64ee2ed4.pth
      - %(host)s/reid_r50_6e_mot17-4bf6b63d.pth
"""

POSES = """\
Models:
  - Name: td-hm_bar_8xb64_coco-256x192
    Metadata: {Training Data: COCO}
    Results:
      - Dataset: COCO
        Task: Body 2D Keypoint
        Metrics: {AP: 0.722, AP@0.5: 0.9, AP (M): 68.5, AR: 0}
      - Dataset: COCO-WholeBody
        Task: Wholebody 2D Keypoint
        Metrics: {Whole AP: 0.5}
    Weights: %(host)s/bar_coco_256x192-9e37ed88_20201004.pth
  - Name: td-hm_bar_8xb64_coco-256x192
    Config: configs/pose/td-hm_bar_8xb64_other-256x192.py
    Weights: %(host)s/bar_other_256x192-9e37ed89_20201004.pth
"""

RESTORERS = """\
Models:
  - Name: bazsr_x4_div2k
    Results:
      - Dataset: DIV2K
        Task: Restorers
        Metrics: {'Set5<br>PSNR / SSIM': {PSNR: 30.5, SSIM: 0.9}, 'P&R10k': {PSNR: 7, SSIM: 8}}
    Weights: %(host)s/bazsr_x4_div2k-22222222.pth
  - Name: bazvsr_reds
    Results:
      - Dataset: REDS
        Task: Restorers
        Metrics: {'REDS4 (BIx4) PSNR/SSIM (RGB)': {PSNR: 31.5, SSIM: 0.89}}
    Weights: https://huggingface.co/foo/bar/blob/main/sub/bazvsr_reds.safetensors
"""


def wheel(folder: Path, name: str, files: dict[str, str | bytes], license_: str = "") -> Path:
    path = folder / f"{name}-1.0.0-py3-none-any.whl"
    meta = f"Name: {name}\nVersion: 1.0.0\nLicense: {license_ or 'Apache License 2.0'}\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-1.0.0.dist-info/METADATA", meta)
        for file, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            archive.writestr(
                f"{name}/.mim/configs/{file}", data.replace(b"%(host)s", HOST.encode())
            )
    return path


def records(*args: object, **kwargs: str) -> dict[str, ModelRecord]:
    found = {item.uid: item for item in harvest(wheel(*args, **kwargs))}  # type: ignore[arg-type]
    for item in found.values():
        assert decode(encode(item)) == item
        assert item.task is None or item.task in TASKS
        *said, derived = item.provenance
        fields = [field for part in item.provenance for field in part.fields]
        assert len(fields) == len(set(fields))
        assert derived.derived
        assert not any(part.derived for part in said)
    return found


def test_classifiers_have_what_is_said_and_what_their_names_say(tmp_path: Path) -> None:
    found = records(
        tmp_path,
        "mmpretrain",
        {
            "foonet/metafile.yml": CLASSIFIERS,
            "foonet/foonet50_8xb32_in1k-320px.py": "raise SystemExit('never run')",
        },
    )
    record = found["mmpretrain/foonet50_8xb32_in1k-320px"]
    assert (record.task, record.architecture) == ("image-classification", "foonet50")
    assert (record.params, record.gmacs, record.gmacs_at) == (25_000_000, 4.1, (3, 320, 320))
    assert (record.num_classes, record.label_set) == (1000, "imagenet-1k")
    assert record.top1 == 77.5
    assert record.paper_ids == ("2101.00001",)
    assert record.origin_url == (
        "https://github.com/open-mmlab/mmpretrain/blob/v1.0.0/"
        "configs/foonet/foonet50_8xb32_in1k-320px.py"
    )
    assert record.license is not None
    assert (record.license.spdx, record.license.scope) == ("Apache-2.0", "project")
    (artifact,) = record.artifacts
    assert artifact.digest is not None
    assert (artifact.digest.value, artifact.digest.prefix) == ("0123abcd", True)
    said, derived = record.provenance
    assert {"params", "gmacs", "evals", "source_datasets"} <= set(said.fields)
    assert {"input_size", "task", "origin_url", "num_classes"} <= set(derived.fields)


def test_a_date_is_no_digest_and_the_last_data_set_is_the_one_fine_tuned_on(
    tmp_path: Path,
) -> None:
    found = records(tmp_path, "mmpretrain", {"foonet/metafile.yml": CLASSIFIERS})
    record = found["mmpretrain/foonet-base_in21k-pre-3rdparty_in1k"]
    assert record.artifacts[0].digest is None
    assert record.params == 88_500_000
    assert record.gmacs is None
    assert record.origin_url is None  # its configuration is not in the wheel
    assert (record.base_model, record.relation) == ("foo/foonet", "converted")
    assert [(d.id, d.role) for d in record.source_datasets] == [
        ("imagenet-21k", "pretrain"),
        ("imagenet-1k", "finetune"),
    ]
    unheaded = found["mmpretrain/foonet50_selfsup-pre"]
    assert (unheaded.task, unheaded.num_classes) == ("image-feature-extraction", None)


def test_what_is_broken_is_named_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files: dict[str, str | bytes] = {
        "a/metafile.yml": b"Models: \xff\xfe",
        "b/metafile.yml": "Models: [",
        "c/metafile.yml": "- no mapping",
        "foonet/metafile.yml": CLASSIFIERS,
    }
    with caplog.at_level(logging.WARNING):
        found = records(tmp_path, "mmcls", files)
    assert set(found) == {
        "mmcls/foonet50_8xb32_in1k-320px",
        "mmcls/foonet-base_in21k-pre-3rdparty_in1k",
        "mmcls/foonet50_selfsup-pre",
        "mmcls/foonet_mangled",
    }
    assert found["mmcls/foonet_mangled"].artifacts[0].urls == (
        f"{HOST}/foonet_mangled-00000000.pth",
    )
    assert found["mmcls/foonet_mangled"].evals == ()
    for part in ("a/metafile.yml", "b/metafile.yml", "A broken entry", "foonet_nowhere"):
        assert part in caplog.text


def test_endless_aliases_are_not_followed(tmp_path: Path) -> None:
    bomb = "\n".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 10)}]" for n in range(1, 12))
    content = (
        f"b0: &b0 x\n{bomb}\n"
        """
Models:
  - *b11
  - Name: foonet_in1k
    In Collection: *b11
    Config: *b11
    Paper: *b11
    Metadata: {FLOPs: *b11, Parameters: *b11, Training Data: *b11, Resolution: *b11,
               inference time (ms/im): *b11, Pretrained: *b11}
    Results: [{Dataset: *b11, Task: *b11, Metrics: {Top 1 Accuracy: *b11}}, *b11]
    Weights: [https://weights.example.org/foonet_in1k-01234567.pth, *b11]
"""
    )
    found = records(tmp_path, "mmpretrain", {"bomb/metafile.yml": content})
    assert found == {}  # the file is refused before it is written out


def test_no_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.whl"
    path.write_bytes(wheel(tmp_path, "mmdet", {"x/metafile.yml": DETECTORS}).read_bytes()[:300])
    with pytest.raises(IntegrityError, match="no wheel"):
        list(harvest(path))


def test_detectors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = records(tmp_path, "mmdet", {"bar/metafile.yml": DETECTORS})
    record = found["mmdet/bar-rcnn_r50_fpn_1x_coco"]
    assert (record.task, record.family) == ("image-segmentation", "barrcnn")
    assert record.input_size == (3, 800, 1333)
    assert "input_size" in record.provenance[0].fields  # said: at this size speed was measured
    assert record.num_classes == 80
    assert [(e.metric_type, e.value) for e in record.evals] == [
        ("box_map", 40.5),
        ("mask_map", 36.5),
    ]
    assert "mmdet/bar-rcnn_r101_fpn_2x_coco" not in found
    assert "bar-rcnn_r101_fpn_2x_coco has the address of other weights" in caplog.text
    assert found["mmdet/barnet_s_voc"].evals == ()  # trained for VOC: 70 % cannot be of COCO
    assert found["mmdet/barnet_s_voc"].source_datasets[0].id == "pascal-voc"


def test_the_files_of_a_tracker_are_models_of_their_own(tmp_path: Path) -> None:
    found = records(tmp_path, "mmdet", {"bar/metafile.yml": DETECTORS})
    assert "mmdet/trackbar_mot17" not in found
    detector, reid = found["mmdet/bar-rcnn_r50_mot17"], found["mmdet/reid_r50_6e_mot17"]
    assert (detector.task, reid.task) == ("object-detection", "image-feature-extraction")
    assert detector.evals == reid.evals == ()  # MOTA is of both together


def test_fractions_become_percent_and_zero_is_unknown(tmp_path: Path) -> None:
    found = records(tmp_path, "mmpose", {"pose/bar_coco.yml": POSES})
    record = found["mmpose/td-hm_bar_8xb64_coco-256x192"]
    assert (record.task, record.input_size) == ("keypoint-detection", (3, 256, 192))
    assert [(e.dataset, e.metric_type, e.config, e.value) for e in record.evals] == [
        ("coco", "keypoint_map", None, 72.2),
        ("coco", "keypoint_map_50", None, 90.0),
        ("coco", "keypoint_map", "M", 68.5),
        ("coco-wholebody", "keypoint_map", "Whole", 50.0),
    ]
    assert record.artifacts[0].digest is not None
    assert record.artifacts[0].digest.value == "9e37ed88"
    assert "mmpose/td-hm_bar_8xb64_other-256x192" in found  # named twice: by its configuration


def test_figures_under_data_sets_of_their_own(tmp_path: Path) -> None:
    found = records(tmp_path, "mmedit", {"baz/metafile.yml": RESTORERS})
    image, video = found["mmedit/bazsr_x4_div2k"], found["mmedit/bazvsr_reds"]
    assert [(e.dataset, e.metric_type, e.value, e.unit) for e in image.evals] == [
        ("set5", "psnr", 30.5, "dB"),
        ("set5", "ssim", 0.9, None),
    ]
    assert [(e.dataset, e.config) for e in video.evals] == [("reds4", "BIx4; RGB")] * 2
    assert (image.task, image.modality) == ("image-to-image", "image")
    assert (video.task, video.modality) == (None, "video")
    assert video.artifacts[0].urls == ("hf:foo/bar@main!sub/bazvsr_reds.safetensors",)
    assert video.artifacts[0].safe is True
    assert video.hf_hub_id is None  # one file of several: not the repository
    assert video.license is None  # the project's is not for the weights of others


def test_the_license_of_mmyolo_is_its_own(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"bar/metafile.yml": DETECTORS}
    found = records(tmp_path, "mmyolo", files, license_="GPL License 3.0")
    licenses = {record.license.spdx for record in found.values() if record.license}
    assert licenses == {"GPL-3.0-only"}


@pytest.mark.parametrize(
    ("name", "architecture", "dataset", "size"),
    [
        ("pspnet_r50-d8_4xb2-40k_cityscapes-512x1024", "pspnet_r50-d8", "cityscapes", (512, 1024)),
        ("mask-rcnn_r50_fpn_1x_coco", "mask-rcnn_r50_fpn", "coco", None),
        ("vit-base-p16_32xb128-mae_in1k", "vit-base-p16", "imagenet-1k", None),
        (
            "tsn_imagenet-pretrained-r50_8xb32-1x1x8-50e_kinetics400-rgb",
            "tsn_r50",
            "kinetics-400",
            None,
        ),
        ("barlow_resnet50_8xb256-coslr-300e_in1k", "barlow_resnet50", "imagenet-1k", None),
    ],
)
def test_names(name: str, architecture: str, dataset: str, size: tuple[int, int] | None) -> None:
    assert architecture_of(name) == architecture
    assert dataset_in(name) == dataset
    assert size_in(name) == size


def test_data_sets_have_one_name() -> None:
    assert dataset_of("Vid4 (BIx4)") == ("vid4", "BIx4")
    assert dataset_of("# ResNet backbone") == (None, None)
    assert datasets_of("Objects365, GoldG and MSCOCO") == ["objects365", "goldg", "coco"]
    assert datasets_of("Pascal VOC 2012 + Aug") == ["pascal-voc-2012-aug"]
    assert datasets_of(["ImageNet-1k", "imagenet1k"]) == ["imagenet-1k"]


def test_size_and_parameters_come_from_the_configuration_and_its_bases(tmp_path: Path) -> None:
    base = """
norm_cfg = dict(type='SyncBN')
model = dict(
    type='EncoderDecoder',
    backbone=dict(type='ResNetV1c', depth=50, num_stages=4, strides=(1, 2, 1, 1)),
    decode_head=dict(type='PSPHead', in_channels=2048, channels=512, num_classes=19,
                     pool_scales=(1, 2, 3, 6), norm_cfg=norm_cfg),
    auxiliary_head=dict(type='FCNHead', in_channels=1024, channels=256, num_convs=1,
                        concat_input=False, num_classes=19))
"""
    own = """
_base_ = ['../_base_/psp.py']
crop_size = (512, 1024)
model = dict(decode_head=dict(num_classes=150), auxiliary_head=dict(num_classes=150))
"""
    odd = own + "model['backbone'] = object()\nmodel = dict(backbone=dict(plugins=[print()]))\n"
    content = """
Models:
  - Name: psp_ade20k
    Config: configs/a/psp.py
    Results: [{Task: Semantic Segmentation, Dataset: ADE20K, Metrics: {mIoU: 41.1}}]
    Weights: https://weights.example.org/psp_ade20k-01234567.pth
  - Name: odd_ade20k
    Config: configs/a/odd.py
    Results: [{Task: Semantic Segmentation, Dataset: ADE20K, Metrics: {mIoU: 41.1}}]
    Weights: https://weights.example.org/odd_ade20k-01234568.pth
"""
    files = {"a/metafile.yml": content, "_base_/psp.py": base, "a/psp.py": own, "a/odd.py": odd}
    found = records(tmp_path, "mmsegmentation", files)
    known = found["mmsegmentation/psp_ade20k"]
    assert known.params == 49_076_364  # as the modules themselves have
    assert known.input_size == (3, 512, 1024)
    derived = {field for item in known.provenance if item.derived for field in item.fields}
    assert "params" in derived
    assert "input_size" not in derived
    assert found["mmsegmentation/odd_ade20k"].params is None
