"""python -m tests.cluster.look URI COLLECTION: the rows that a search could find, as JSON; runs on the hub."""

from __future__ import annotations

import json
import sys

from pymilvus import MilvusClient


def main(uri: str, collection: str) -> None:
    client = MilvusClient(uri)
    client.load_collection(collection)
    found = client.query(collection, filter="", output_fields=["id", "vector"], limit=16_384, consistency_level="Strong")
    counted = client.query(collection, filter="", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]
    assert counted == len(found), f"{counted} rows are counted, {len(found)} are found"
    print(json.dumps(sorted((row["id"], [round(float(value), 4) for value in row["vector"]]) for row in found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
