"""The boto3 client of the checkpoint store, and what S3's refusals mean.

No message holds a credential: codes and class names are told, never texts of the SDK, which can quote the
endpoint with a password in it. For the same reason the SDK's exception is not chained.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import boto3
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from tasks.domain.errors import BadInput

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Verdict = Literal["taken", "conflict", "unreachable", "unanswered", "busy", "refused"]
"""What a failed call means.

taken        the condition failed: an object stands there
conflict     another conditional write was under way; nothing was changed
unreachable  no connection came about; nothing was changed
unanswered   the request may have been carried out
busy         the server says that it could not; it may be wrong about that
refused      trying again gives the same answer
"""

FAILURES = (boto.ClientError, boto.BotoCoreError, ResponseParserError, OSError)
"""Whatever a call can raise."""

_BY_CODE: dict[str, Verdict] = {
    "PreconditionFailed": "taken",
    "ConditionalRequestConflict": "conflict",
    "OperationAborted": "conflict",
    "RequestTimeout": "busy",
    "RequestTimeTooSkewed": "busy",  # a clock that jumped is set right again
    "SlowDown": "busy",
    "Throttling": "busy",
    "ThrottlingException": "busy",
    "RequestLimitExceeded": "busy",
    "TooManyRequests": "busy",
}
_PASSING_FOR_A_KEY = {"InternalError", "ServiceUnavailable", *_BY_CODE} - {"PreconditionFailed"}
_BY_STATUS: dict[int, Verdict] = {412: "taken", 409: "conflict", 429: "busy", 501: "refused"}

_CURES = {
    "NoSuchBucket": "there is no such bucket: make it, or correct `checkpoint`",
    "AccessDenied": "access is denied: allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there",
    "InvalidAccessKeyId": "the access key is not known there: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "SignatureDoesNotMatch": "the secret key does not fit the access key: set AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired: renew them",
    "InvalidToken": "the session token is not valid: renew the credentials",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region: set AWS_REGION",
    "NotImplemented": "this server has no conditional writes (If-None-Match), so two runs could both seal: use another store",
}
_CONFIGURATION: dict[type[Exception], str] = {
    boto.NoCredentialsError: "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    boto.PartialCredentialsError: "half of the credentials is missing: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    boto.CredentialRetrievalError: "the credentials could not be fetched: check the profile's credential process",
    boto.TokenRetrievalError: "the sign-in has expired: run `aws sso login`",
    boto.SSOError: "the sign-in has expired: run `aws sso login`",
    boto.ProfileNotFound: "AWS_PROFILE names a profile that is not there",
    boto.NoRegionError: "no region is set: set AWS_REGION",
    ResponseParserError: "what answers there is no S3 server: correct AWS_ENDPOINT_URL",
    boto.SSLError: "the server's certificate is not trusted: set AWS_CA_BUNDLE, or correct AWS_ENDPOINT_URL",
    boto.ConnectionError: "nothing answers there: correct AWS_ENDPOINT_URL, or start the server",
    boto.HTTPClientError: "no S3 server answers there: correct AWS_ENDPOINT_URL, or start the server",
    boto.ParamValidationError: "S3 takes no such bucket name or key: correct `checkpoint`",
}


def connect(*, connect_seconds: float = 10, read_seconds: float = 60) -> S3Client:
    """A client from the environment, as any AWS tool would make it; it never retries by itself.

    Raises:
        BadInput: the environment is set wrongly.
    """
    config = Config(
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        max_pool_connections=32,
        retries={"mode": "standard", "total_max_attempts": 1},  # the store is the one retry owner
        request_checksum_calculation="when_required",  # stores other than AWS refuse the newer checksums
        response_checksum_validation="when_required",
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except (boto.BotoCoreError, ValueError) as error:
        raise BadInput(f"S3: {_configuration(error)}") from None


def verdict(error: Exception) -> Verdict:
    """What a failed call means; see `Verdict`."""
    if isinstance(error, boto.ClientError):
        return _by_answer(error)
    if isinstance(error, boto.ConnectionError) and not isinstance(error, boto.SSLError):  # TLS can break late
        return "unreachable"
    lost = (boto.SSLError, boto.HTTPClientError, boto.IncompleteReadError, OSError)
    return "unanswered" if isinstance(error, lost) else "refused"


def answered(error: Exception) -> bool:
    """Whether it was the server itself that failed the call."""
    return isinstance(error, boto.ClientError)


def some_refused(codes: Iterable[str]) -> boto.ClientError:
    """The failure of a call that was answered well as a whole, and not for each of its keys: a passing one only if all are."""
    told = sorted(set(codes), key=lambda code: code in _PASSING_FOR_A_KEY)
    status = 500 if told[0] in _PASSING_FOR_A_KEY else 403
    return boto.ClientError({"Error": {"Code": told[0]}, "ResponseMetadata": {"HTTPStatusCode": status}}, "DeleteObjects")  # type: ignore[typeddict-item]


def _by_answer(error: boto.ClientError) -> Verdict:
    code, status = code_of(error), int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return "busy" if status >= 500 else "refused"


def code_of(error: Exception) -> str:
    """The name that S3 or the SDK gives to the failure; it never holds a secret."""
    if isinstance(error, boto.ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) or "no code"
    return type(error).__name__


def cure(error: Exception) -> str:
    """Why a call was refused and what to change."""
    if isinstance(error, boto.ClientError):
        code = code_of(error)
        code = "AccessDenied" if code in ("403", "Forbidden", "AllAccessDisabled") else code
        return _CURES.get(code, f"the server refuses ({code})")
    return _configuration(error)


def _configuration(error: Exception) -> str:
    for kind, words in _CONFIGURATION.items():
        if isinstance(error, kind):
            return words
    if isinstance(error, ValueError):
        return "AWS_ENDPOINT_URL is not a URL: correct it"
    return f"the request could not be made ({type(error).__name__}): check the AWS settings"


def endpoint_of(client: S3Client) -> str:
    """Where the client goes, without any user and password."""
    parts = urlsplit(client.meta.endpoint_url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}"
