"""Pictures of every format and mode that a corpus holds, made from one photograph-like scene."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def scene(seed: int, width: int = 150, height: int = 110) -> Image.Image:
    """Smooth colours with some edges and grain."""
    random = np.random.default_rng(seed)
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [np.sin(6.3 * (random.uniform(0.5, 3) * across + random.uniform(0.5, 3) * down) + random.uniform(0, 6)) for _ in range(3)]
    pixels = np.stack(waves, axis=-1) * 90 + 128 + random.normal(0, 6, (height, width, 3))
    pixels[height // 3 : height // 2, width // 4 : width // 2] = random.integers(0, 255, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGB")


def photograph(seed: int, width: int = 2000, height: int = 1500) -> Image.Image:
    """A scene with texture of every scale and with edges: what unpacking at a smaller size could get wrong."""
    random = np.random.default_rng(seed)
    pixels = np.asarray(scene(seed, width, height), dtype=np.float32).copy()
    for grain in (2, 8, 64):
        noise = random.normal(0, 14, (height // grain + 1, width // grain + 1, 3)).astype(np.float32)
        pixels += noise.repeat(grain, axis=0).repeat(grain, axis=1)[:height, :width]
    for _ in range(60):
        x, y, size = random.integers(0, width - 9), random.integers(0, height - 9), random.integers(5, 200)
        pixels[y : y + size, x : x + size] = random.integers(0, 255, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def every_kind() -> dict[str, bytes]:
    """Name to encoded picture: 60 of them. One of each scene has 16 bits, which open_clip itself makes white."""
    made: dict[str, bytes] = {}
    for seed in range(3):
        image = scene(seed)
        alpha = Image.fromarray(np.linspace(0, 255, 150 * 110).reshape(110, 150).astype(np.uint8), "L")
        clear = image.copy()
        clear.putalpha(alpha)
        grey, palette = image.convert("L"), image.quantize(64)
        grey_alpha = Image.merge("LA", (grey, alpha))
        deep = Image.fromarray((np.asarray(grey, dtype=np.uint16) * 257).astype(np.uint16))
        turned = image.getexif()
        turned[0x0112] = 6
        frames = {"save_all": True, "append_images": [scene(seed + 10), scene(seed + 20)], "duration": 50}
        kinds = {
            "jpeg": saved(image, "JPEG", quality=90),
            "jpeg progressive": saved(image, "JPEG", progressive=True),
            "jpeg grey": saved(grey, "JPEG"),
            "jpeg cmyk": saved(image.convert("CMYK"), "JPEG"),
            "jpeg turned by exif": saved(image, "JPEG", exif=turned),
            "png": saved(image, "PNG"),
            "png rgba": saved(clear, "PNG"),
            "png palette": saved(palette, "PNG"),
            "png palette transparent": saved(palette, "PNG", transparency=3),
            "png grey": saved(grey, "PNG"),
            "png grey with alpha": saved(grey_alpha, "PNG"),
            "png 1 bit": saved(image.convert("1"), "PNG"),
            "png 16 bit": saved(deep, "PNG"),
            "webp": saved(image, "WEBP"),
            "webp animated": saved(image, "WEBP", **frames),
            "gif": saved(palette, "GIF"),
            "gif animated": saved(image, "GIF", **frames),
            "tiff": saved(image, "TIFF"),
            "tiff of pages": saved(image, "TIFF", save_all=True, append_images=[scene(seed + 10)]),
            "bmp": saved(image, "BMP"),
        }
        made |= {f"{name} {seed}": data for name, data in kinds.items()}
    return made
