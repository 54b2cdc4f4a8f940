"""python -m tests.cluster.refusing_s3 PORT FILE: moto's S3, which refuses every call (503 SlowDown) for as long as the file is there."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

ANSWER = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'


def main(port: str, refuses: str) -> None:
    moto, file = DomainDispatcherApplication(create_backend_app), Path(refuses)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not file.exists():
            return moto(environ, start_response)  # type: ignore[no-any-return]
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(ANSWER)))])
        return [ANSWER]

    run_simple("0.0.0.0", int(port), answer, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main(*sys.argv[1:])
