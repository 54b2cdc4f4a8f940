"""What is known of a served model without asking its server: a corpus can be planned, listed and loaded while the server is down."""

from __future__ import annotations

from tasks.adapters.models.model_files import LocatedModel
from tasks.adapters.models.model_metadata import ModelShape
from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.domain.digest import digest


def locate_served(encoder: ServedEncoder) -> LocatedModel:
    """The model as the job names it. What is behind that name is pinned by the first run (`tasks.domain.served_identity`)."""
    weights = digest(["served", encoder.api, encoder.model, encoder.revision])
    return LocatedModel(path=encoder.url, weights=weights, revision=encoder.revision, told=_told(encoder))


def _told(encoder: ServedEncoder) -> str:
    rows = _side(encoder.prompt, encoder.parameters)
    questions = _side(encoder.query_prompt, encoder.parameters if encoder.query_parameters is None else encoder.query_parameters)
    return f"served at {encoder.url}; rows: {rows}; questions: {questions}"


def _side(prompt: str | None, parameters: object) -> str:
    return (f"prompt {prompt!r}" if prompt else "no prompt") + (f", {parameters}" if parameters else "")


def shape_of_served(encoder: ServedEncoder, _located: LocatedModel) -> ModelShape:
    """What the settings tell; the pinned record knows more."""
    return ModelShape(dim=encoder.truncate_dim, prompt=encoder.prompt or "")
