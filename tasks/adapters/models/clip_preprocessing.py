"""Image preprocessing of an open_clip model: as its architecture was trained, unless the job overrides it.

open_clip knows the preprocessing of its own tags and of folders. For an architecture name with a checkpoint file it uses CLIP's,
whatever the architecture; this module uses the one that all tags of the architecture share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from tasks.domain.job.encoder import OpenClipEncoder

_HALF: Mapping[str, JsonValue] = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
_IMAGENET: Mapping[str, JsonValue] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_UNCHANGED: Mapping[str, JsonValue] = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
# Differences from CLIP's preprocessing: its mean and deviation, bicubic, the shorter side resized and the center cropped.
FAMILIES: Mapping[str, Mapping[str, JsonValue]] = {
    r"siglip": {**_HALF, "resize_mode": "squash"},
    r"-CLIPA(-|$)": {**_IMAGENET, "interpolation": "bilinear", "resize_mode": "squash"},
    r"^MobileCLIP2-S[34]$": {"interpolation": "bilinear"},
    r"^MobileCLIP-|^MobileCLIP2-(B|S0|S2)$": {**_UNCHANGED, "interpolation": "bilinear"},
    r"^PE-Core-": {**_HALF, "interpolation": "bilinear", "resize_mode": "squash"},
    r"^ViT-(H|bigG)-14(-worldwide)?-378": {"resize_mode": "squash"},
}


def family_preprocessing(encoder: OpenClipEncoder) -> dict[str, JsonValue]:
    """Return how the preprocessing of an architecture name with a checkpoint file differs from CLIP's, without settings that the job sets."""
    name = encoder.architecture.replace("/", "-")
    if ":" in name or not Path(encoder.pretrained).expanduser().is_file():
        return {}
    family = next((settings for pattern, settings in FAMILIES.items() if re.search(pattern, name, re.IGNORECASE)), {})
    return {setting: value for setting, value in family.items() if getattr(encoder, setting) is None}


def describe_preprocessing(encoder: OpenClipEncoder) -> str:
    """Describe the preprocessing for messages; "" if the model's own files or tag alone determine it."""
    family = family_preprocessing(encoder)
    configured = {name: getattr(encoder, name) for name in ("mean", "std", "resize_mode", "interpolation", "image_size")}
    effective = {**{name: value for name, value in configured.items() if value is not None}, **family}
    parts = [f"{name.replace('_', ' ')} {_format(value)}" for name, value in effective.items()]
    return "pictures: " + ", ".join(parts) + (f" (as {encoder.architecture} was trained)" if family else "") if parts else ""


def _format(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
