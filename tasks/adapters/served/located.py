"""Facts about a served model from the settings only: a corpus can be planned, listed and loaded while the server is down."""

from __future__ import annotations

from pathlib import Path

from tasks.adapters.models.file_digests import sha256_of_file
from tasks.adapters.models.model_files import LocatedModel, hub_snapshot
from tasks.adapters.models.model_metadata import ModelShape
from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.domain.digest import digest
from tasks.domain.errors import BadInput

TOKENIZER = "tokenizer.json"


def locate_served(encoder: ServedEncoder) -> LocatedModel:
    """The model that the job names. The first run pins the model behind that name (`tasks.domain.served_identity`).

    Raises:
        BadInput: the tokenizer that the job names does not exist.
    """
    weights, tokenizer = digest(["served", encoder.api, encoder.model, encoder.revision]), _tokenizer_of(encoder)
    return LocatedModel(
        path=encoder.url,
        weights=weights,
        revision=encoder.revision,
        description=_described(encoder),
        tokenizer=tokenizer,
        tokenizer_digest=sha256_of_file(tokenizer) if tokenizer else "",
    )


def _tokenizer_of(encoder: ServedEncoder) -> Path | None:
    if encoder.tokenizer is None:
        return None
    folder = Path(encoder.tokenizer).expanduser()
    if not folder.is_dir() and encoder.tokenizer.startswith((".", "/", "~")):
        raise BadInput(f"encoder.tokenizer: there is no folder '{encoder.tokenizer}'")
    if not folder.is_dir():
        folder = hub_snapshot(encoder.tokenizer, None, setting="encoder.tokenizer", only=[TOKENIZER])
    if not (folder / TOKENIZER).is_file():
        raise BadInput(
            f"encoder.tokenizer: '{encoder.tokenizer}' has no {TOKENIZER}: save the model's tokenizer there with save_pretrained"
        )
    return folder / TOKENIZER


def _described(encoder: ServedEncoder) -> str:
    rows = _side(encoder.prompt, encoder.parameters)
    questions = _side(encoder.query_prompt, encoder.parameters if encoder.query_parameters is None else encoder.query_parameters)
    return f"served at {encoder.url}; rows: {rows}; questions: {questions}"


def _side(prompt: str | None, parameters: object) -> str:
    return (f"prompt {prompt!r}" if prompt else "no prompt") + (f", {parameters}" if parameters else "")


def shape_of_served(encoder: ServedEncoder, located: LocatedModel) -> ModelShape:
    """The shape as far as the settings give it; the pinned record has more."""
    return ModelShape(dim=encoder.truncate_dim, prompt=encoder.prompt or "", tokenizer=located.tokenizer)
