"""Write a draft as a job file: YAML with comments that explain the choices."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from tasks.commands.draft_job import Draft

LINE_CHARACTERS = 10_000  # lines are not wrapped, since comments follow the values
TEXT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SEVERAL_LANGUAGES = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"


def job_text(draft: Draft, *, schema: str | None, sampled: int) -> str:
    """The text of the job file.

    Args:
        draft: the contents.
        schema: the place of the JSON Schema, relative to the file; None: no schema.
        sampled: number of rows that the choices are based on.
    """
    return "\n".join(_lines(draft, schema, sampled)) + "\n"


def _lines(draft: Draft, schema: str | None, sampled: int) -> Iterator[str]:
    if schema:
        yield f"# yaml-language-server: $schema={schema}"
        yield f"$schema: {_value(schema)}"
    yield f"corpus: {_value(draft.corpus)}"
    yield "source:"
    yield f"  kind: {draft.kind}"
    yield f"  uri: {_value(draft.uri)}"
    yield from _columns(draft, sampled)
    yield from _encoder(draft)
    yield f"checkpoint: {_value(draft.checkpoint)}  # the vectors, from which runs resume; a folder or s3://bucket/prefix"
    yield "target:"
    yield f"  uri: {_value(draft.target)}  # a Milvus Lite file (.db), http://host:19530, or a Zilliz Cloud endpoint with MILVUS_TOKEN set"
    yield f"  collection: {_value(draft.corpus)}  # the name that searches use"
    yield "  mode: append  # mirror: rows of files that are gone are removed as well"


def _columns(draft: Draft, sampled: int) -> Iterator[str]:
    if draft.split is not None:
        yield f"  chunks: {{tokens: auto, split: {draft.split}}}  # a file longer than the model's input becomes several rows"
    if not (draft.text or draft.image):
        return
    if draft.key is not None:
        yield f"  id: {_value(draft.key)}  # the key; distinct in all of the {sampled:,} sampled rows"
    else:
        yield "  # id: no column is a key by its name and values, so the key is a hash of the content"
    if draft.image is not None:
        yield f"  image: {_value(draft.image)}  # the column to embed"
    else:
        yield f"  text: {_value(list(draft.text))}  # the columns to embed, joined by a blank line"
    if draft.metadata:
        yield f"  metadata: {_value(list(draft.metadata))}  # fields to filter by and to show"
    if draft.decimals:
        types = dict.fromkeys(map(_comment, draft.decimals), "double")
        yield f"  # types: {_value(types)}  # kept as texts (3.50); as numbers, filters can compare them by < and >"
    if draft.left:
        yield f"  # not in metadata: {', '.join(f'{_comment(name)} ({why})' for name, why in draft.left.items())}"


def _encoder(draft: Draft) -> Iterator[str]:
    yield "encoder:"
    if draft.pictures:
        yield "  kind: open-clip  # pictures, searched by words or by a picture"
        yield "  architecture: ViT-B-32"
        yield "  pretrained: laion2b_s34b_b79k"
    elif draft.several_languages:
        yield f"  model: {SEVERAL_LANGUAGES}  # fifty languages; any sentence-transformers model works"
    else:
        yield f"  model: {TEXT_MODEL}  # English; {SEVERAL_LANGUAGES.rpartition('/')[2]} supports fifty languages"


def _value(value: object) -> str:
    """A value as YAML on one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=LINE_CHARACTERS).removesuffix("\n").removesuffix("\n...")
    )


def _comment(text: str) -> str:
    return " ".join(text.split())
