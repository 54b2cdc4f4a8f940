"""A folder of JPEGs to vectors: the real command against the recipe of clip-retrieval's inference.

The recipe (https://github.com/rom1504/clip-retrieval): a DataLoader that opens and transforms pictures as open_clip says, batches of
256, `encode_image`, vectors scaled and written as .npy. The model is ViT-S-32-alt with random weights: what is measured is the way.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.figures import Results, Series, compare, ratio
from tests.benchmarks.kitestring import environment, job_of, own_folder, run
from tests.benchmarks.vectors import cosines
from tests.benchmarks.watch import watch

PICTURES = 2_000
SIZES = ((2000, 1500), (1200, 900), (640, 480))
KINDS = 24  # pictures that differ; the rest are the same under other names, since making one takes longer than encoding it
ARCHITECTURE = "ViT-S-32-alt"
RECIPE = "clip-retrieval's recipe"


def images(sizes: Sizes) -> Outcome:
    """Pictures/s while encoding, start-up and peak memory; cosine to the recipe's vectors."""
    count = sizes.rows_or(PICTURES, quick=24)
    with own_folder() as folder:
        model = write_model(folder / "model.safetensors")
        write_pictures(folder / "pictures", count)
        contenders: dict[str, Callable[[], Mapping[str, float]]] = {RECIPE: partial(recipe, folder, model, count)}
        for name, settings in {"float32": {}, "float32, exact": {"exact": True}, "auto": {"precision": "auto"}}.items():
            contenders[f"Kitestring, {name}"] = partial(kitestring, folder, model, count, name, {"precision": "float32", **settings})
        results = compare(contenders, sizes.rounds)
        _add_cosines(results, folder)
    said = [f"{name}: {ratio(results, name, RECIPE, 'pictures/s'):.2f} x {RECIPE}" for name in results if name != RECIPE]
    return Outcome(title=f"{count:,} JPEGs, {ARCHITECTURE}", results=results, conclusions=said, drawn="pictures/s")


def write_model(path: Path) -> Path:
    """Weights of a fixed seed."""
    code = (
        f"import open_clip, torch; from safetensors.torch import save_file; torch.manual_seed(7); m = open_clip.create_model('{ARCHITECTURE}');"
        f"save_file({{n: t.contiguous() for n, t in m.state_dict().items()}}, {str(path)!r})"
    )
    watch([sys.executable, "-c", code], cwd=path.parent, env=environment(path.parent))
    return path


def write_pictures(folder: Path, count: int) -> None:
    """Photograph-like JPEGs of some sizes; names sort in the order of their making."""
    from tests.builders.worker.pictures import photograph, saved  # noqa: PLC0415

    folder.mkdir()
    made = [saved(photograph(seed, *SIZES[seed % len(SIZES)]), "JPEG", quality=88) for seed in range(min(KINDS, count))]
    for number in range(count):
        (folder / f"{number:06d}.jpg").write_bytes(made[number % len(made)])


def recipe(folder: Path, model: Path, count: int) -> Mapping[str, float]:
    figures, vectors = folder / "recipe.json", folder / f"{RECIPE}.npy"
    command = [sys.executable, "-m", "tests.benchmarks.clip_recipe", str(folder / "pictures"), str(model), str(figures), str(vectors)]
    watched = watch(command, cwd=folder, env=environment(folder))
    marks = json.loads(figures.read_text())
    return _figures(count, ready=marks["ready"], seconds=marks["encoded"] - marks["ready"], peak=watched.peaks.whole)


def kitestring(folder: Path, model: Path, count: int, name: str, encoder: Mapping[str, object]) -> Mapping[str, float]:
    with own_folder() as here:
        job = job_of(here, folder, model)
        job["source"] = {"kind": "images", "uri": str(folder / "pictures")}
        job["encoder"] = {"kind": "open-clip", "architecture": ARCHITECTURE, "pretrained": str(model), **encoder}
        ran = run(here, job)
        parts = [pq.read_table(path, columns=["id", "vector"]) for path in (here / "checkpoint").rglob("part-*.parquet")]
        found = {key: vector for part in parts for key, vector in zip(part["id"].to_pylist(), part["vector"].to_numpy(), strict=True)}
        np.save(folder / f"Kitestring, {name}.npy", np.stack([found[key] for key in sorted(found)]))
    ready = ran.ready
    return _figures(count, ready=ready, seconds=ran.marks["last rows"] - ready, peak=ran.watched.peaks.whole)


def _figures(count: int, *, ready: float, seconds: float, peak: float) -> dict[str, float]:
    return {"pictures/s": count / seconds, "encoding s": seconds, "start-up s": ready, "peak MiB": peak}


def _add_cosines(results: Results, folder: Path) -> None:
    reference = np.load(folder / f"{RECIPE}.npy")
    for name in results:
        if name != RECIPE:
            lowest, mean = cosines(reference, np.load(folder / f"{name}.npy"))
            results[name] |= {"lowest 1-cos, 1e-6": Series(((1 - lowest) * 1e6,)), "mean 1-cos, 1e-6": Series(((1 - mean) * 1e6,))}
