"""Opens a job's target. The kinds are listed in `tasks.domain.job.target.TARGETS`: a new kind needs a folder and a line there."""

from __future__ import annotations

from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import ReadSecret
from tasks.domain.job.kinds import declared_at
from tasks.domain.job.target import TARGETS, TargetSettings
from tasks.domain.ports import Target

# Imported here, not on first use: importing pymilvus configures logging, which closes every handler of the process. Within a
# flow that waits for Prefect's handlers to send their records while holding the lock that sending needs: a deadlock.
declared_at(TARGETS[TARGETS.default].opens)


def no_secrets(setting: str, block: str) -> str:
    """Reads no Secret block; for callers without access to Prefect."""
    raise BadInput(f"{setting}: there is no Secret block '{block}' here")


def target_for(settings: TargetSettings, *, token: str | None, secret: ReadSecret = no_secrets) -> Target:
    """Open the target that a job names; connects at the first call. The caller closes it.

    Args:
        settings: the job's target settings.
        token: for a server that requires one.
        secret: reads a Secret block.
    """
    target: Target = declared_at(TARGETS[settings.kind].opens)(settings, token, secret)
    return target
