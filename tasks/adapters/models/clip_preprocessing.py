"""How pictures are made ready for an open_clip model: what its architecture was trained with, and what the job says otherwise.

open_clip knows the preprocessing of its own tags and of folders. For an architecture by name with a checkpoint file it takes CLIP's,
whatever the architecture is; here the one that all tags of the architecture have is taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from tasks.domain.job.encoder import OpenClipEncoder

_HALF: Mapping[str, JsonValue] = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
_IMAGENET: Mapping[str, JsonValue] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_AS_IT_IS: Mapping[str, JsonValue] = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
# Where it differs from CLIP's: its mean and deviation, bicubic, the shorter side resized and the middle cut out.
FAMILIES: Mapping[str, Mapping[str, JsonValue]] = {
    r"siglip": {**_HALF, "resize_mode": "squash"},
    r"-CLIPA(-|$)": {**_IMAGENET, "interpolation": "bilinear", "resize_mode": "squash"},
    r"^MobileCLIP2-S[34]$": {"interpolation": "bilinear"},
    r"^MobileCLIP-|^MobileCLIP2-(B|S0|S2)$": {**_AS_IT_IS, "interpolation": "bilinear"},
    r"^PE-Core-": {**_HALF, "interpolation": "bilinear", "resize_mode": "squash"},
    r"^ViT-(H|bigG)-14(-worldwide)?-378": {"resize_mode": "squash"},
}


def family_preprocessing(encoder: OpenClipEncoder) -> dict[str, JsonValue]:
    """What an architecture by name with a checkpoint file asks for beside CLIP's, as far as the job does not say it."""
    name = encoder.architecture.replace("/", "-")
    if ":" in name or not Path(encoder.pretrained).expanduser().is_file():
        return {}
    family = next((settings for sign, settings in FAMILIES.items() if re.search(sign, name, re.IGNORECASE)), {})
    return {setting: value for setting, value in family.items() if getattr(encoder, setting) is None}


def told_of_pictures(encoder: OpenClipEncoder) -> str:
    """The preprocessing in words, where the model's own files or tag do not settle it alone; "" where they do."""
    family = family_preprocessing(encoder)
    said = {name: getattr(encoder, name) for name in ("mean", "std", "resize_mode", "interpolation", "image_size")}
    taken = {**{name: value for name, value in said.items() if value is not None}, **family}
    shown = [f"{name.replace('_', ' ')} {_shown(value)}" for name, value in taken.items()]
    return "pictures: " + ", ".join(shown) + (f" (as {encoder.architecture} was trained)" if family else "") if shown else ""


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
