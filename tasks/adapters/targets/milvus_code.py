"""The lines of Python with which an application searches a collection in Milvus."""

from __future__ import annotations

from tasks.domain.job.target import MilvusSettings
from tasks.domain.target.collection import CollectionSpec


def milvus_search(settings: MilvusSettings, spec: CollectionSpec) -> str:
    """With pymilvus, through the alias: it follows when a new encoder's collection takes over. Expects a function `embed`."""
    shown = ["id", *(["text"] if spec.store_text else []), *(field.name for field in spec.fields)]
    options = [repr(settings.uri)]
    if settings.uri.startswith(("http", "grpc")):
        options.append('token=os.environ.get("MILVUS_TOKEN", "")')
    options += [f"db_name={settings.database!r}"] if settings.database else []
    how = f", search_params={settings.search!r}" if settings.search else ""
    lines = [
        "import os",
        "",
        "from pymilvus import MilvusClient",
        "",
        f"client = MilvusClient({', '.join(options)})",
        f"client.load_collection({spec.alias!r})",
        "",
        "def search(words, k=10):",
        f'    [hits] = client.search({spec.alias!r}, data=[embed(words).tolist()], anns_field="vector", limit=k{how},',
        f"                           output_fields={shown!r})",
        "    return hits",
    ]
    return "\n".join(lines if any("os." in option for option in options) else lines[2:])
