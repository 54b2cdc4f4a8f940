"""Server-side import of Parquet files, by the three APIs that servers offer.

Milvus before 2.4      two gRPC calls; paths on the server's own disk, or keys in its bucket
Milvus 2.4 and later   its REST service under /v2/vectordb/jobs/import; keys in its bucket
Zilliz Cloud           the same paths on api.cloud.zilliz.com, for a cluster; whole URLs, and credentials to read them

Written against Milvus' and Zilliz' REST references (2.6; docs.zilliz.com, import operations v2). An import does not check
for existing keys: the caller must import into a fresh collection, with unique keys.

pymilvus.bulk_writer.bulk_import (3.0.2) is not used: it sets its own headers, so no Idempotency-Key can be sent, and it raises the same
type for a refusal and for a missing answer.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from tasks.adapters.milvus.connection import Connection
from tasks.adapters.milvus.protobuf import look_at_import, start_import, stub_of
from tasks.domain.errors import BadInput, KitestringError, OutcomeUnknown, Permanent, Transient
from tasks.domain.job.index import Server
from tasks.domain.shards.import_attempt import ImportState

IMPORT_CALL_SECONDS = 30.0
FILES_IN_A_JOB = 1_000  # Milvus accepts 1,024
ZILLIZ_API = "https://api.cloud.zilliz.com"
_GRPC_DONE, _GRPC_FAILED = {6}, {1, 7}  # ImportCompleted; ImportFailed, ImportFailedAndCleaned


class Importer(Protocol):
    """Starts imports and reads their state."""

    def start(self, collection: str, files: Sequence[str], *, idempotency_key: str) -> list[str]:
        """Start the import of files; return the server's job ids.

        Args:
            collection: the collection to import into.
            files: their locations from the server's point of view.
            idempotency_key: the same for the same request; servers that support it start the job once.

        Raises:
            OutcomeUnknown: the job may be running.
            Permanent: the server refuses the request.
        """

    def look(self, job: str) -> ImportState:
        """Return the state of a job.

        Raises:
            Transient: the server does not answer.
        """


def importer_for(connection: Connection, server: Server, *, token: str | None, database: str) -> Importer:
    """The importer for a server.

    Raises:
        BadInput: the server cannot import.
    """
    if server.kind == "Milvus Lite":
        raise BadInput("target.load: Milvus Lite has no import: set it to auto")
    if server.kind == "Zilliz Cloud":
        return RestImporter(os.environ.get("ZILLIZ_API", ZILLIZ_API), token=token, database=database, cluster=_cluster(connection.uri))
    if server.number < (2, 4):
        return GrpcImporter(connection)
    return RestImporter(
        connection.uri, token=token, database=database, verify=connection.certificates.context(), proxied=connection.proxied
    )


def _cluster(uri: str) -> str:
    """A Zilliz Cloud cluster's id is the first label of its endpoint: https://in03-….serverless.….cloud.zilliz.com."""
    return (urlsplit(uri).hostname or "").partition(".")[0]


class GrpcImporter:
    """Milvus 2.2 and 2.3."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(self, collection: str, files: Sequence[str], *, idempotency_key: str) -> list[str]:  # noqa: ARG002 - these servers do not support it
        return [task for file in files for task in self._start_one(collection, file)]

    def _start_one(self, collection: str, file: str) -> list[str]:
        """Import one file: these servers accept one Parquet file per request."""
        try:
            answer = start_import(self._stub, collection, file, database=self._connection.database, timeout=IMPORT_CALL_SECONDS)
        except Exception as error:
            raise OutcomeUnknown(f"starting an import at {self._connection.at.name}: {type(error).__name__}") from error
        if answer.status.code or answer.status.error_code:
            raise Permanent(f"importing at {self._connection.at.name}: {answer.status.reason}")
        return [str(task) for task in answer.tasks]

    def look(self, job: str) -> ImportState:
        ask = lambda: look_at_import(self._stub, job, timeout=IMPORT_CALL_SECONDS)  # noqa: E731 - called again on a retry
        answer: Any = self._connection.call(ask, f"reading the state of import {job}")
        infos = {pair.key: pair.value for pair in answer.infos}
        state = "done" if answer.state in _GRPC_DONE else "failed" if answer.state in _GRPC_FAILED else "running"
        return ImportState(state=state, percent=int(infos.get("progress_percent") or 0), reason=infos.get("failed_reason", ""))

    @property
    def _stub(self) -> Any:
        stub = stub_of(self._connection.client)
        if stub is None or not hasattr(stub, "Import"):
            raise Permanent("this pymilvus has no gRPC import: set target.load to upsert")
        return stub


class RestImporter:
    """Milvus 2.4 and later, or Zilliz Cloud if `cluster` is set."""

    def __init__(
        self,
        base: str,
        *,
        token: str | None,
        database: str,
        cluster: str = "",
        verify: ssl.SSLContext | bool = True,
        proxied: bool = True,
    ) -> None:
        self._base, self._database, self._cluster = base.rstrip("/"), database, cluster
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(headers=headers, timeout=IMPORT_CALL_SECONDS, verify=verify, trust_env=proxied)

    def start(self, collection: str, files: Sequence[str], *, idempotency_key: str) -> list[str]:
        jobs = []
        for first in range(0, len(files), FILES_IN_A_JOB):
            some = [[file] for file in files[first : first + FILES_IN_A_JOB]]
            where = {"clusterId": self._cluster, "objectUrls": some, **_keys()} if self._cluster else {"files": some}
            body = {"dbName": self._database, "collectionName": collection, **where}
            data = self._post("create", body, headers={"Idempotency-Key": f"{idempotency_key}-{first}"}, starting=True)
            jobs.append(str(data["jobId"]))
        return jobs

    def look(self, job: str) -> ImportState:
        about = {"clusterId": self._cluster, "jobId": job} if self._cluster else {"dbName": self._database, "jobId": job}
        data = self._post("describe", about, headers={}, starting=False)
        state = {"Completed": "done", "Failed": "failed"}.get(str(data.get("state")), "running")
        return ImportState.model_validate({"state": state, "percent": int(data.get("progress") or 0), "reason": data.get("reason") or ""})

    def _post(self, verb: str, body: dict[str, Any], *, headers: dict[str, str], starting: bool) -> dict[str, Any]:
        at = f"{self._base}/v2/vectordb/jobs/import/{verb}"
        leaf: type[KitestringError] = OutcomeUnknown if starting else Transient
        try:
            answer = self._http.post(at, json=body, headers=headers)
            document = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise leaf(f"{at}: {type(error).__name__}") from error
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise leaf(f"{at}: HTTP {answer.status_code}")
        if document.get("code") != 0 or not answer.is_success:
            raise Permanent(f"{at}: {document.get('message') or f'HTTP {answer.status_code}'} (code {document.get('code')})")
        return dict(document.get("data") or {})


def _keys() -> dict[str, str]:
    """The S3 credentials with which Zilliz Cloud reads a private bucket: this process's, from the SDK's own variables.

    Raises:
        BadInput: they are not set.
    """
    names = {"accessKey": "AWS_ACCESS_KEY_ID", "secretKey": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN"}
    keys = {name: os.environ[variable] for name, variable in names.items() if os.environ.get(variable)}
    if not {"accessKey", "secretKey"} <= keys.keys():
        raise BadInput(
            "target.load: for an import Zilliz Cloud needs keys to read the staged files: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return keys
