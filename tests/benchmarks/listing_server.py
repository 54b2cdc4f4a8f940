"""python -m tests.benchmarks.listing_server FILES: a server of S3's protocol with a bucket of so many pictures that are names alone.

It prints its port, and answers ListObjectsV2, a thousand keys a page, as S3 does; nothing else.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 1_000
ENTRY = (
    "<Contents><Key>rows/{n:07}.jpg</Key><LastModified>2026-11-26T08:00:00.000Z</LastModified>"
    "<ETag>&quot;{n:032x}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def page(first: int, files: int) -> bytes:
    """The keys from this number on."""
    stop = min(first + PAGE, files)
    rest = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{stop}</NextContinuationToken>" if stop < files else ""
    entries = "".join(ENTRY.format(n=n, size=20_000 + n) for n in range(first, stop))
    return f'<?xml version="1.0"?><ListBucketResult><Name>lake</Name><KeyCount>{stop - first}</KeyCount>{rest}{entries}</ListBucketResult>'.encode()


def serve(files: int) -> None:
    class Listing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            there = files if "rows/".startswith(asked.get("prefix", [""])[0]) else 0
            answer = page(int(asked.get("continuation-token", ["0"])[0]), there)
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
