"""python -m tests.cluster.beside.rows_reached URI COLLECTION ROWS: ends once the collection has so many rows; runs on the hub.

One process for all looks, five in a second: to start one for each takes seconds where processors are busy.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from pymilvus import MilvusClient, MilvusException


def main(uri: str, collection: str, rows: str) -> None:
    client, found = MilvusClient(uri), 0
    while found < int(rows):
        time.sleep(0.2)
        with suppress(MilvusException):  # it is not there, or not loaded, yet
            found = client.query(collection, filter="", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]
    print(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
