"""Installs Kitestring on a Prefect server: work pools, a concurrency limit, deployments, automations.

    PREFECT_API_URL=http://127.0.0.1:4200/api python deployments/install.py [process docker ...]

Creates work pools of the named kinds, by default of all kinds; a pool without a worker shows a red dot in the UI. Run again, it keeps
existing pools and the limit, and updates deployments and automations from their files. Too many quarantined rows are reported to the
notification block `kitestring-notify`; $KITESTRING_NOTIFY makes one that posts to that URL.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.utilities.importtools import import_object

from flows.run_form import with_form

HERE = Path(__file__).parent
POOLS = {"process": "kitestring", "docker": "kitestring-docker", "kubernetes": "kitestring-kubernetes", "ecs": "kitestring-ecs"}
LIMIT, NOTIFY = "kitestring-encoder", "kitestring-notify"


def main() -> None:
    """Install everything; each step prints what it did."""
    kinds = sys.argv[1:] or list(POOLS)
    if unknown := set(kinds) - set(POOLS):
        sys.exit(f"unknown kind of pool: {', '.join(sorted(unknown))}; known: {', '.join(POOLS)}")
    with get_client(sync_client=True) as client:
        for kind in kinds:
            create_pool(client, kind, POOLS[kind])
        create_limit(client)
        deploy()
        set_forms(client)
        create_automations(client)


def create_pool(client: SyncPrefectClient, kind: str, name: str) -> None:
    """Create a work pool with the template of its kind; keep an existing one, which may have been edited."""
    template = json.loads((HERE / "pools" / f"{kind}.json").read_text())
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
    except ObjectAlreadyExists:
        say(f"pool {name} exists")
    else:
        say(f"pool {name} ({kind})")


def create_limit(client: SyncPrefectClient) -> None:
    """Create the limit of one encoder at a time over all hosts; with several GPU hosts, raise it to their number."""
    try:
        client.read_global_concurrency_limit_by_name(LIMIT)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=1))
        say(f"concurrency limit {LIMIT}: one run at a time")
    else:
        say(f"concurrency limit {LIMIT} exists")


def deploy() -> None:
    """Deploy every deployment of prefect.yaml."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(HERE / "prefect.yaml"), "--all"]
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"prefect deploy failed:\n{done.stdout}")


def set_forms(client: SyncPrefectClient) -> None:
    """Set each deployment's run form to that of `flows.run_form`."""
    for deployment in yaml.safe_load((HERE / "prefect.yaml").read_text())["deployments"]:
        flow = import_object(deployment["entrypoint"])
        installed = client.read_deployment_by_name(f"{flow.name}/{deployment['name']}")
        form = with_form(installed.parameter_openapi_schema, installed.parameters)
        client.request("PATCH", "/deployments/{id}", path_params={"id": installed.id}, json={"parameter_openapi_schema": form})
        say(f"deployment {deployment['name']}")


def create_automations(client: SyncPrefectClient) -> None:
    """Create each file's automation, replacing one of the same name."""
    block = notification_block(client)
    for file in sorted((HERE / "automations").glob("*.yaml")):
        document = yaml.safe_load(file.read_text())
        document["actions"] = [resolve_action(action, block) for action in document["actions"]]
        automation = AutomationCore.model_validate(document)
        for old in request(client, "/automations/filter", {"automations": {"name": {"any_": [automation.name]}}}):
            client.request("DELETE", "/automations/{id}", path_params={"id": old["id"]})
        request(client, "/automations/", automation.model_dump(mode="json"))
        say(f"automation {automation.name}")


def resolve_action(action: dict[str, Any], block: str | None) -> dict[str, Any]:
    """Send notifications to the block; without one, the action does nothing, and only the UI shows the event."""
    if action.get("block_document_id") != "notify":
        return action
    return {**action, "block_document_id": block} if block else {"type": "do-nothing"}


def notification_block(client: SyncPrefectClient) -> str | None:
    """Return the id of the notification block, after creating it from $KITESTRING_NOTIFY if that is set."""
    if url := os.environ.get("KITESTRING_NOTIFY"):
        body = {"subject": "{{subject}}", "body": "{{body}}"}
        CustomWebhookNotificationBlock(name="Kitestring", url=url, json_data=body).save(NOTIFY, overwrite=True)
    blocks = request(client, "/block_documents/filter", {"block_documents": {"name": {"any_": [NOTIFY]}}})
    return str(blocks[0]["id"]) if blocks else None


def request(client: SyncPrefectClient, path: str, body: dict[str, Any]) -> Any:
    """Send a POST request; return the server's answer."""
    return client.request("POST", path, json=body).json()


def say(message: str) -> None:
    """Print a message."""
    sys.stdout.write(f"{message}\n")


if __name__ == "__main__":
    main()
