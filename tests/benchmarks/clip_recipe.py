"""The recipe of clip-retrieval's inference, without its resampling of files: what `images` compares with.

python -m tests.benchmarks.clip_recipe FOLDER MODEL FIGURES.json VECTORS.npy
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil

BEGAN = psutil.Process().create_time()
BATCH = 256


def main() -> None:
    folder, model, figures, vectors = sys.argv[1:]
    import numpy as np  # noqa: PLC0415 - imports are part of what is measured
    import open_clip  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from torch.utils.data import DataLoader  # noqa: PLC0415

    from tests.benchmarks.images import ARCHITECTURE  # noqa: PLC0415

    loaded, _, transform = open_clip.create_model_and_transforms(ARCHITECTURE, pretrained=model)
    loaded.eval()
    marks = {"ready": time.time() - BEGAN}
    paths = sorted(Path(folder).iterdir())
    batches = DataLoader(_Pictures(paths, transform), batch_size=BATCH, num_workers=os.cpu_count() or 1)
    found = []
    with torch.inference_mode():
        for batch in batches:
            features = loaded.encode_image(batch)
            found.append((features / features.norm(dim=-1, keepdim=True)).numpy())
    np.save(vectors, np.concatenate(found))
    marks["encoded"] = time.time() - BEGAN
    Path(figures).write_text(json.dumps(marks))


class _Pictures:
    def __init__(self, paths: list[Path], transform: Any) -> None:
        self._paths, self._transform = paths, transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, at: int) -> Any:
        from PIL import Image  # noqa: PLC0415

        return self._transform(Image.open(self._paths[at]))


if __name__ == "__main__":
    main()
