"""What data sets hold whose names do not say it: words to find by what was trained on them."""

from __future__ import annotations

_ABOVE = "aerial satellite"
_EYE = "medical eye retina retinal vessel"
_STREET = "car driving road street"

# A data set as in the records -> words in plain English.
SHOWN: dict[str, str] = {
    "300w": "face",
    "300w-lp": "face",
    "aflw": "face",
    "ap-10k": "animal",
    "celeba": "face",
    "celeba-hq": "face",
    "celebamask-hq": "face",
    "chase-db1": _EYE,
    "cityscapes": f"{_STREET} city",
    "cofw": "face",
    "crowdhuman": "pedestrian person",
    "crowdpose": "person",
    "cub-200-2011": "bird",
    "deepfashion": "clothes fashion",
    "deepfashion2": "clothes fashion",
    "dota-v1.0": _ABOVE,
    "drive": _EYE,
    "ffhq": "face",
    "freihand": "hand",
    "hrf": _EYE,
    "isaid": _ABOVE,
    "kitti": _STREET,
    "loveda": _ABOVE,
    "market-1501": "person",
    "nuscenes": _STREET,
    "potsdam": _ABOVE,
    "s3dis": "indoor room",
    "scannet": "indoor room",
    "semantickitti": f"{_STREET} lidar",
    "stare": _EYE,
    "sunrgbd": "indoor room",
    "vaihingen": _ABOVE,
    "waymo": f"{_STREET} lidar",
    "wflw": "face",
}
