"""A corpus that is searched by meaning and by words, and a tiny model with as much meaning as that needs.

2,000 passages: 400 parts, each with a number of its own and five passages, every one about a subject and two details. Whatever a
passage says has a synonym, of the same vector, that no passage uses; numbers have no vector. So a question in synonyms is found by
meaning alone; of a question for a number and a subject, words know the number (five passages) and meaning the subject (some 80).
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

PARTS, EACH, SUBJECTS, DETAILS, QUESTIONS = 400, 5, 25, 120, 100
DIM = 64
_MODULE = "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding"


class Passage(NamedTuple):
    key: str
    text: str
    number: str
    concepts: tuple[str, ...]  # the subject first


def passages() -> list[Passage]:
    drawn = random.Random(5)
    found = []
    for part in range(PARTS):
        number = f"E{1000 + 7 * part}-{'ABC'[part % 3]}"
        for place, subject in enumerate(drawn.sample(range(SUBJECTS), EACH)):
            concepts = (f"subject{subject}", *(f"detail{detail}" for detail in drawn.sample(range(DETAILS), 2)))
            found.append(Passage(f"p{part}-{place}", f"Part {number}: {' '.join(concepts)}.", number, concepts))
    return found


def questions() -> dict[str, list[dict[str, Any]]]:
    """Half by meaning, half by number; each has one answer."""
    drawn = random.Random(6).sample(passages(), 2 * QUESTIONS)
    by_meaning = [{"query": " ".join(map(synonym, each.concepts)), "relevant": [each.key]} for each in drawn[:QUESTIONS]]
    by_number = [{"query": f"{each.number} {synonym(each.concepts[0])}", "relevant": [each.key]} for each in drawn[QUESTIONS:]]
    return {"meaning": by_meaning, "number": by_number}


def synonym(concept: str) -> str:
    return f"other{concept}"


def write_passages(path: Path, found: list[Passage]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"id": [each.key for each in found], "text": [each.text for each in found], "number": [each.number for each in found]}
    pq.write_table(pa.table(columns), path)


def write_questions(path: Path, asked: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(each)}\n" for each in asked))
    return path


def make_meaning_model(folder: Path) -> Path:
    """A StaticEmbedding: the mean of a text's words, of which a concept and its synonym are one."""
    concepts = [*(f"subject{n}" for n in range(SUBJECTS)), *(f"detail{n}" for n in range(DETAILS))]
    words = [word for concept in concepts for word in (concept, synonym(concept))]
    vectors = np.random.default_rng(8).standard_normal((len(concepts), DIM)).astype(np.float32).repeat(2, axis=0)
    vocabulary = {"[UNK]": 0, "part": 1, **{word: place for place, word in enumerate(words, 2)}}
    (folder).mkdir(parents=True)
    # An unknown word is next to nothing: of zeros alone no cosine can be had.
    save_file({"embedding.weight": np.concatenate([np.full((2, DIM), 1e-3, np.float32), vectors])}, str(folder / "model.safetensors"))
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    documents = {
        "tokenizer.json": tokenizer,
        "modules.json": [{"idx": 0, "name": "0", "path": "", "type": _MODULE}],
        "config_sentence_transformers.json": {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document))
    return folder
