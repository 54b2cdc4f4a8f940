"""The one way to S3: boto3's clients with one configuration, and what S3's refusals mean.

botocore is the retry owner, in its `legacy` mode. Its newer modes draw every client's retries from one budget (500 tokens,
14 for a retry) that only successes refill: of 16 threads that put one object each while nothing answered for 20 s, none got
through in `standard` or `adaptive` mode with 14 tries (all had failed within a second, and later calls were not tried again at all),
all in `legacy` mode with 8, of which 1 in 100 draws waits of less than 20 s together (botocore 1.44). What may not be made twice
blindly, a conditional put, goes through a client that tries once.

No message holds a credential: they have codes and class names, never texts of the SDK, which can quote the
endpoint with a password in it. For the same reason the SDK's exception is not chained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import boto3
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from tasks.domain.errors import BadInput

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

S3Outcome = Literal["taken", "conflict", "unreachable", "unanswered", "busy", "refused"]
"""What a failed call means.

taken        the condition failed: an object exists
conflict     another conditional write was under way; nothing was changed
unreachable  no connection came about; nothing was changed
unanswered   the request may have been carried out
busy         the server says that it could not; it may be wrong about that
refused      trying again gives the same answer
"""

FAILURES = (boto.ClientError, boto.BotoCoreError, ResponseParserError, OSError)
"""Whatever a call can raise."""

_BY_CODE: dict[str, S3Outcome] = {
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
    "NoSuchUpload": "unanswered",  # the server lost it, or an earlier try completed it
}
_BY_STATUS: dict[int, S3Outcome] = {412: "taken", 409: "conflict", 429: "busy", 501: "refused"}

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


TRIES = 8  # with a random share of 1, 2, 4 ... 64 s between them: a minute in the mean
STRANGER_TRIES = 3  # enough for a lost packet; a mistyped address should be reported soon


@dataclass(slots=True)
class Contact:
    """Whether the server has ever answered: silence is then a passing fault and not a wrong address."""

    proven: bool = False

    def note(self, *, attempts: int, response: object = None, **_: object) -> bool | None:
        """A handler of botocore's event `needs-retry`: False vetoes the next try."""
        self.proven = self.proven or response is not None
        return False if self.hopeless(attempts) else None

    def hopeless(self, attempts: int) -> bool:
        """Whether so many tries in silence are enough."""
        return not self.proven and attempts >= STRANGER_TRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Connection:
    """`client` tries again by itself, `once` does not. `session`: whose credentials they sign with, and refresh."""

    session: boto3.session.Session
    client: S3Client
    once: S3Client
    contact: Contact
    tries: int = TRIES


def connect(*, proven: bool = False, tries: int = TRIES, connect_seconds: float = 10, read_seconds: float = 60) -> S3Connection:
    """Clients from the environment, as any AWS tool would make them.

    Args:
        proven: the server has answered the parent process before (this is a rank, say): see `Contact`.
        tries: of a call that may be made twice.
        connect_seconds: for a connection to come about.
        read_seconds: that the server may stay silent.

    Raises:
        BadInput: the environment is set wrongly.
    """
    contact = Contact(proven)
    seconds = {"connect_timeout": connect_seconds, "read_timeout": read_seconds}
    try:
        session = boto3.session.Session()
        client, once = (_client(session, n, contact, **seconds) for n in (tries, 1))
    except (boto.BotoCoreError, ValueError) as error:
        raise BadInput(f"S3: {_configuration(error)}") from None
    return S3Connection(session=session, client=client, once=once, contact=contact, tries=tries)


def _client(session: boto3.session.Session, tries: int, contact: Contact, **seconds: float) -> S3Client:
    config = Config(
        **seconds,  # type: ignore[arg-type]
        max_pool_connections=32,
        retries={"mode": "legacy", "total_max_attempts": tries},
        request_checksum_calculation="when_required",  # stores other than AWS refuse the newer checksums
        response_checksum_validation="when_required",
    )
    client: Any = session.client("s3", config=config, region_name=session.region_name or "us-east-1")
    client.meta.events.register_first("needs-retry.s3", contact.note)  # before botocore's own: the first answer counts
    return client  # type: ignore[no-any-return]


def outcome(error: Exception) -> S3Outcome:
    """What a failed call means; see `S3Outcome`."""
    if isinstance(error, boto.ClientError):
        return _by_answer(error)
    if isinstance(error, boto.ConnectionError) and not isinstance(error, boto.SSLError):  # TLS can break late
        return "unreachable"
    lost = (boto.SSLError, boto.HTTPClientError, boto.IncompleteReadError, OSError)
    return "unanswered" if isinstance(error, lost) else "refused"


def _by_answer(error: boto.ClientError) -> S3Outcome:
    code, status = s3_code(error), int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return "busy" if status >= 500 else "refused"


def s3_code(error: Exception) -> str:
    """The name that S3 or the SDK gives to the failure; it never holds a secret."""
    if isinstance(error, boto.ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) or "no code"
    return type(error).__name__


def cure(error: Exception) -> str:
    """Why a call was refused and what to change."""
    if isinstance(error, boto.ClientError):
        code = s3_code(error)
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
