"""The only access to S3: boto3's clients with one configuration, and a classification of S3's errors.

botocore owns the retries, in its `legacy` mode. Its newer modes draw every client's retries from one budget (500 tokens,
14 a retry) that only successes refill: of 16 threads that put one object each while nothing answered for 20 s, none
succeeded in `standard` or `adaptive` mode with 14 tries (all failed within a second, and later calls were not retried at all),
all in `legacy` mode with 8, of which 1 in 100 draws waits of less than 20 s in total (botocore 1.44). A conditional put must
not be repeated blindly, so it goes through a client that tries once.

Messages never contain a credential: they have codes and class names, never the SDK's texts, which can quote an
endpoint with a password. For the same reason the SDK's exception is not chained.
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
conflict     another conditional write was in progress; nothing was changed
unreachable  no connection was made; nothing was changed
unanswered   the request may have been executed
busy         the server reports that it could not execute it, perhaps wrongly
refused      a retry would give the same answer
"""

FAILURES = (boto.ClientError, boto.BotoCoreError, ResponseParserError, OSError)
"""All that a call can raise."""

_BY_CODE: dict[str, S3Outcome] = {
    "PreconditionFailed": "taken",
    "ConditionalRequestConflict": "conflict",
    "OperationAborted": "conflict",
    "RequestTimeout": "busy",
    "RequestTimeTooSkewed": "busy",  # a clock that jumped is corrected soon
    "SlowDown": "busy",
    "Throttling": "busy",
    "ThrottlingException": "busy",
    "RequestLimitExceeded": "busy",
    "TooManyRequests": "busy",
    "NoSuchUpload": "unanswered",  # the server lost it, or an earlier attempt completed it
}
_BY_STATUS: dict[int, S3Outcome] = {412: "taken", 409: "conflict", 429: "busy", 501: "refused"}

_CURES = {
    "NoSuchBucket": "there is no such bucket: create it, or correct `checkpoint`",
    "AccessDenied": "access is denied: allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket",
    "InvalidAccessKeyId": "the server does not know the access key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "SignatureDoesNotMatch": "the secret key does not match the access key: set AWS_SECRET_ACCESS_KEY",
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
    boto.ProfileNotFound: "AWS_PROFILE names a profile that does not exist",
    boto.NoRegionError: "no region is set: set AWS_REGION",
    ResponseParserError: "the server there is not an S3 server: correct AWS_ENDPOINT_URL",
    boto.SSLError: "the server's certificate is not trusted: set AWS_CA_BUNDLE, or correct AWS_ENDPOINT_URL",
    boto.ConnectionError: "no server answers: correct AWS_ENDPOINT_URL, or start the server",
    boto.HTTPClientError: "no S3 server answers: correct AWS_ENDPOINT_URL, or start the server",
    boto.ParamValidationError: "S3 does not allow this bucket name or key: correct `checkpoint`",
}


TRIES = 8  # with a random share of 1, 2, 4 ... 64 s between them: a minute on average
UNPROVEN_TRIES = 3  # enough for a lost packet; a mistyped address should be reported soon


@dataclass(slots=True)
class Contact:
    """Whether the server has ever answered: then no answer is a transient fault and not a wrong address."""

    proven: bool = False

    def note(self, *, attempts: int, response: object = None, **_: object) -> bool | None:
        """Handle botocore's event `needs-retry`; returning False vetoes the next attempt."""
        self.proven = self.proven or response is not None
        return False if self.hopeless(attempts) else None

    def hopeless(self, attempts: int) -> bool:
        """Return whether to give up after this many unanswered attempts."""
        return not self.proven and attempts >= UNPROVEN_TRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Connection:
    """`client` retries, `once` does not. `session` holds and refreshes the credentials of both."""

    session: boto3.session.Session
    client: S3Client
    once: S3Client
    contact: Contact
    tries: int = TRIES


def connect(*, proven: bool = False, tries: int = TRIES, connect_seconds: float = 10, read_seconds: float = 60) -> S3Connection:
    """Create clients from the environment, as any AWS tool does.

    Args:
        proven: the server has already answered the parent process (in a rank, for example): see `Contact`.
        tries: attempts of a call that may be repeated.
        connect_seconds: timeout of a connection.
        read_seconds: timeout of a reply.

    Raises:
        BadInput: the environment is misconfigured.
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
    client.meta.events.register_first("needs-retry.s3", contact.note)  # before botocore's own handlers: the first result decides
    return client  # type: ignore[no-any-return]


def outcome(error: Exception) -> S3Outcome:
    """Classify a failed call; see `S3Outcome`."""
    if isinstance(error, boto.ClientError):
        return _by_response(error)
    if isinstance(error, boto.ConnectionError) and not isinstance(error, boto.SSLError):  # TLS can fail after the request
        return "unreachable"
    no_reply = (boto.SSLError, boto.HTTPClientError, boto.IncompleteReadError, OSError)
    return "unanswered" if isinstance(error, no_reply) else "refused"


def _by_response(error: boto.ClientError) -> S3Outcome:
    code, status = s3_code(error), int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return "busy" if status >= 500 else "refused"


def s3_code(error: Exception) -> str:
    """Return the name of the failure by S3 or the SDK; never contains a secret."""
    if isinstance(error, boto.ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) or "no code"
    return type(error).__name__


def cure(error: Exception) -> str:
    """Return why a call was refused and what to change."""
    if isinstance(error, boto.ClientError):
        code = s3_code(error)
        code = "AccessDenied" if code in ("403", "Forbidden", "AllAccessDisabled") else code
        return _CURES.get(code, f"the server refuses ({code})")
    return _configuration(error)


def _configuration(error: Exception) -> str:
    for kind, message in _CONFIGURATION.items():
        if isinstance(error, kind):
            return message
    if isinstance(error, ValueError):
        return "AWS_ENDPOINT_URL is not a URL: correct it"
    return f"the request could not be made ({type(error).__name__}): check the AWS settings"


def endpoint_of(client: S3Client) -> str:
    """Return the client's endpoint without user and password."""
    parts = urlsplit(client.meta.endpoint_url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}"
