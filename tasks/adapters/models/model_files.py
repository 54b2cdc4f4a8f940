"""Locates, downloads and digests a model's files without loading torch.

A fingerprint identifies the weights that made a vector, and planning needs the fingerprint on a machine that never
loads the model; so weights are identified by the digest of their files.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from pydantic import JsonValue

from tasks.adapters.models.clip_preprocessing import describe_preprocessing, family_preprocessing
from tasks.adapters.models.file_digests import sha256_of_file
from tasks.adapters.models.other_kinds import cure_of, other_kind
from tasks.adapters.models.prompts import read_json, sides_of
from tasks.domain.digest import digest
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import ENCODERS, Encoder, OpenClipEncoder, SentenceTransformersEncoder, TextModelEncoder
from tasks.domain.job.kinds import declared_at

# Formats of other runtimes: stored beside the weights that are loaded, they change no vector.
OTHER_RUNTIMES = ["onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite", "*.gguf", "coreml/*"]
HUB = "hf-hub:"
# If both weight files exist, open_clip loads the first.
CLIP_FILES = ["open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
ADAPTER = "adapter_config.json"
NOT_THE_MODEL = {".md", ".png", ".jpg", ".pdf"}
Metric = Literal["COSINE", "IP", "L2"]
SIMILARITIES: dict[str, Metric] = {"cosine": "COSINE", "dot": "IP", "euclidean": "L2"}  # by sentence-transformers' names


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedModel:
    """A model's files on this machine."""

    path: str  # what the worker loads: a folder, a file, or open_clip's own tag
    weights: str  # digest
    revision: str | None
    resolved: Mapping[str, JsonValue] = field(default_factory=dict)  # settings that the model's files add to an identity
    description: str = ""  # prompts or preprocessing in use, for messages
    metric: Metric | None = None  # that the model was trained for, if its files name it
    other_similarity: str = ""  # that the model was trained for, if no collection supports it
    earlier: str = ""  # digest of the same model by an older version, which did not read its files
    tokenizer: Path | None = None  # that measures chunks, if it is not among the model's own files
    tokenizer_digest: str = ""

    def is_model_of(self, weights: str) -> bool:
        """Return whether an identity with this weights digest may belong to this model."""
        return weights in {self.weights, *filter(None, [self.earlier])}


def locate_model(encoder: Encoder) -> LocatedModel:
    """Find an encoder's files, downloading a hub model that is not cached.

    Raises:
        BadInput: unknown model, architecture or checkpoint; names it and the remedy.
    """
    located: LocatedModel = declared_at(ENCODERS[encoder.kind].files)(encoder)
    return located


def locate_text(encoder: SentenceTransformersEncoder) -> LocatedModel:
    """Locate a sentence-transformers model."""
    folder, revision = model_folder(encoder)
    if wrong := other_kind(folder):
        raise BadInput(
            f"encoder.model '{encoder.model}' is {wrong}: encoder.kind sentence-transformers takes models that give one vector for a text{cure_of(wrong)}"
        )
    return located_folder(encoder, folder, revision)


def model_folder(encoder: TextModelEncoder) -> tuple[Path, str | None]:
    """Return the folder of a text model's files and, for a hub model, their commit."""
    folder, revision = Path(encoder.model).expanduser(), None
    if folder.is_dir():
        folder = folder.resolve()
    elif encoder.model.startswith((".", "/", "~")):
        raise BadInput(f"encoder.model: there is no folder '{encoder.model}'")
    else:
        folder = hub_snapshot(encoder.model, encoder.revision)
        revision = folder.name
    if not (folder / "config.json").exists() and not (folder / "modules.json").exists():
        raise BadInput(f"encoder.model: '{folder}' holds no model: it has neither modules.json nor config.json")
    return folder, revision


def located_folder(encoder: TextModelEncoder, folder: Path, revision: str | None) -> LocatedModel:
    """Describe the text model in a folder."""
    sides, similarity = sides_of(encoder, folder), read_json(folder / "config_sentence_transformers.json").get("similarity_fn_name")
    return LocatedModel(
        path=str(folder),
        weights=_digest_folder(folder),
        revision=revision,
        resolved=sides.changed,
        description=sides.description,
        metric=SIMILARITIES.get(str(similarity)),
        other_similarity=str(similarity) if similarity and similarity not in SIMILARITIES else "",
    )


def hub_snapshot(model: str, revision: str | None, *, setting: str = "encoder.model", only: list[str] | None = None) -> Path:
    """Return the folder of a hub model's files, downloading what is not cached. `only`: patterns of file names.

    Raises:
        BadInput: there is no such model, or the hub cannot be reached; names the setting.
    """
    name = f"{setting} '{model}'" + (f" at revision '{revision}'" if revision else "")
    try:
        return Path(snapshot_download(model, revision=revision, ignore_patterns=OTHER_RUNTIMES, allow_patterns=only))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise BadInput(f"{name}: no such model on the hub, and no such folder here") from error
    except RevisionNotFoundError as error:
        raise BadInput(f"{name}: the model has no such revision") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise BadInput(f"{name}: not in the local cache, and the hub cannot be reached; give a local folder or go online") from error


def _digest_folder(folder: Path) -> str:
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and _counts(f, folder)]
    return digest({f.relative_to(folder).as_posix(): _digest_file(f) for f in files})


def _digest_file(file: Path) -> str:
    """Digest a file; for a PEFT adapter's configuration, the base model's content replaces its location."""
    adapter = read_json(file) if file.name == ADAPTER else {}
    base = adapter.pop("base_model_name_or_path", None)
    if not base:
        return sha256_of_file(file)
    revision = adapter.pop("revision", None)
    local = Path(str(base)).expanduser()
    return digest({"adapter": adapter, "base": _digest_folder(local if local.is_dir() else hub_snapshot(str(base), revision))})


def _counts(file: Path, folder: Path) -> bool:
    relative = file.relative_to(folder)
    if any(part.startswith(".") for part in relative.parts) or any(relative.match(p) for p in OTHER_RUNTIMES):
        return False
    if file.suffix in NOT_THE_MODEL:
        return False
    # If both forms of the same weights exist, the loader takes safetensors.
    return not (file.name == "pytorch_model.bin" and (file.parent / "model.safetensors").exists())


def locate_clip(encoder: OpenClipEncoder) -> LocatedModel:
    """Locate an open_clip model's weights."""
    architecture, pretrained = encoder.architecture, encoder.pretrained
    folder = Path(architecture.removeprefix("local-dir:")).expanduser()
    if architecture.startswith("local-dir:"):
        return _located_clip_folder(encoder, folder)
    if architecture.startswith(HUB):
        return _located_hub_clip(encoder)
    _refuse_unknown(architecture)
    checkpoint, description = Path(pretrained).expanduser(), describe_preprocessing(encoder)
    if checkpoint.is_file():
        weights = digest([architecture, sha256_of_file(checkpoint)])
        family = family_preprocessing(encoder)
        resolved: dict[str, JsonValue] = {"trained_with": family} if family else {}
        return LocatedModel(path=str(checkpoint.resolve()), weights=weights, revision=None, resolved=resolved, description=description)
    if checkpoint.is_dir():
        raise BadInput(f"encoder.pretrained: '{pretrained}' is a folder: {_cure_for_folder(checkpoint)}")
    if "/" in pretrained or checkpoint.suffix in {".pt", ".bin", ".safetensors"}:
        raise BadInput(f"encoder.pretrained: there is no checkpoint '{pretrained}'")
    return LocatedModel(path=pretrained, weights=digest([architecture, "tag", pretrained]), revision=None, description=description)


def _cure_for_folder(folder: Path) -> str:
    if (folder / "open_clip_config.json").exists():
        return f"set encoder.architecture: local-dir:{folder}, and leave encoder.pretrained empty"
    checkpoints = sorted(path.name for path in folder.iterdir() if path.suffix in {".pt", ".pth", ".bin", ".safetensors"})[:5]
    return f"name a checkpoint in it{' (' + ', '.join(checkpoints) + ')' if checkpoints else ''}, or a folder with an open_clip_config.json as local-dir:"


def _located_clip_folder(encoder: OpenClipEncoder, folder: Path) -> LocatedModel:
    if not (folder / "open_clip_config.json").exists():
        raise BadInput(f"encoder.architecture: '{encoder.architecture}' has no open_clip_config.json")
    return LocatedModel(path="", weights=_digest_folder(folder), revision=None, description=describe_preprocessing(encoder))


def _located_hub_clip(encoder: OpenClipEncoder) -> LocatedModel:
    """Identify a hub model by the content of its configuration and weights: its name may get others later. open_clip reads no tag for it."""
    name = encoder.architecture.removeprefix(HUB)
    folder = hub_snapshot(name, None, setting="encoder.architecture", only=CLIP_FILES[:2])
    if not (folder / CLIP_FILES[1]).exists():
        folder = hub_snapshot(name, None, setting="encoder.architecture", only=CLIP_FILES)
    config, weights = folder / CLIP_FILES[0], next((folder / file for file in CLIP_FILES[1:] if (folder / file).exists()), None)
    if weights is None or not config.exists():
        raise BadInput(f"encoder.architecture: '{encoder.architecture}' holds no open_clip model: it lacks {' or '.join(CLIP_FILES[1:])}")
    return LocatedModel(
        path=encoder.pretrained,
        weights=digest({"config": sha256_of_file(config), "weights": sha256_of_file(weights)}),
        revision=folder.name,
        description=describe_preprocessing(encoder),
        earlier=digest([encoder.architecture, "tag", encoder.pretrained]),
    )


def _refuse_unknown(architecture: str) -> None:
    package = importlib.util.find_spec("open_clip")
    folders = (package.submodule_search_locations if package else None) or []
    known = [config.stem for place in folders for config in Path(place, "model_configs").glob("*.json")]
    if known and architecture.replace("/", "-") not in known:
        near = difflib.get_close_matches(architecture, known, 3)
        raise BadInput(
            f"encoder.architecture: open_clip knows no '{architecture}'" + (f"; did you mean {' or '.join(near)}?" if near else "")
        )
