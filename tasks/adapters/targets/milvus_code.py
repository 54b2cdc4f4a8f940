"""Generates the Python code with which an application searches a collection in Milvus."""

from __future__ import annotations

from tasks.domain.job.target import MilvusSettings
from tasks.domain.target.collection import CollectionSpec
from tasks.domain.target.full_text import CANDIDATES, RRF_K, SPARSE_FIELD


def milvus_search(settings: MilvusSettings, spec: CollectionSpec) -> str:
    """Code for pymilvus that searches through the alias, so that it follows to a new encoder's collection. It expects a function `embed`.

    If the collection has full text, `search` is hybrid (by meaning and by words) and `search_text` searches by words only.
    """
    shown = ["id", *(["text"] if spec.store_text else []), *(field.name for field in spec.fields)]
    options = [repr(settings.uri)]
    if settings.uri.startswith(("http", "grpc")):
        options.append('token=os.environ.get("MILVUS_TOKEN", "")')
    options += [f"db_name={settings.database!r}"] if settings.database else []
    names = ["AnnSearchRequest", "MilvusClient", "RRFRanker"] if spec.full_text else ["MilvusClient"]
    lines = [
        "import os",
        "",
        f"from pymilvus import {', '.join(names)}",
        "",
        f"client = MilvusClient({', '.join(options)})",
        f"client.load_collection({spec.alias!r})",
        "",
        *(_by_both(settings, spec, shown) if spec.full_text else _by_meaning(settings, spec, shown)),
    ]
    return "\n".join(lines if any("os." in option for option in options) else lines[2:])


def _query(spec: CollectionSpec) -> str:
    return "embed(words)" if spec.sparse else "embed(words).tolist()"


def _by_meaning(settings: MilvusSettings, spec: CollectionSpec, shown: list[str]) -> list[str]:
    params = f", search_params={settings.search!r}" if settings.search else ""
    return [
        "def search(words, k=10):",
        f'    [hits] = client.search({spec.alias!r}, data=[{_query(spec)}], anns_field="vector", limit=k{params},',
        f"                           output_fields={shown!r})",
        "    return hits",
    ]


def _by_both(settings: MilvusSettings, spec: CollectionSpec, shown: list[str]) -> list[str]:
    dense = {"metric_type": spec.metric, "params": settings.search}
    text = {"metric_type": "BM25", "params": {}}
    return [
        "def search(words, k=10):",
        f'    by_meaning = AnnSearchRequest([{_query(spec)}], "vector", {dense!r}, limit=max(k, {CANDIDATES}))',
        f"    by_words = AnnSearchRequest([words], {SPARSE_FIELD!r}, {text!r}, limit=max(k, {CANDIDATES}))",
        f"    [hits] = client.hybrid_search({spec.alias!r}, [by_meaning, by_words], RRFRanker({RRF_K}), limit=k,",
        f"                                  output_fields={shown!r})",
        "    return hits",
        "",
        "def search_text(words, k=10):",
        f"    [hits] = client.search({spec.alias!r}, data=[words], anns_field={SPARSE_FIELD!r}, limit=k, search_params={text!r},",
        f"                           output_fields={shown!r})",
        "    return hits",
    ]
