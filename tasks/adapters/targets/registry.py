"""Opens what a job's target is. The kinds stand in `tasks.domain.job.target.TARGETS`: to add one is a folder and a line there."""

from __future__ import annotations

from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import ReadSecret
from tasks.domain.job.kinds import declared_at
from tasks.domain.job.target import TARGETS, TargetSettings
from tasks.domain.ports import Target

# Here and not when a run first names it: pymilvus configures logging as it is imported, which closes every handler of the process. In
# the middle of a flow that waits for Prefect's handlers to send what they hold, with the lock that their sending needs: a deadlock.
declared_at(TARGETS[TARGETS.default].opens)


def no_secrets(setting: str, block: str) -> str:
    """Where connections are not kept open."""
    raise BadInput(f"{setting}: there is no Secret block '{block}' here")


def target_for(settings: TargetSettings, *, token: str | None, secret: ReadSecret = no_secrets) -> Target:
    """The target that a job names, to be closed; it connects at its first call.

    Args:
        settings: the job's.
        token: for a server that asks for one.
        secret: reads a Secret block.
    """
    target: Target = declared_at(TARGETS[settings.kind].opens)(settings, token, secret)
    return target
