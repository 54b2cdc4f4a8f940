"""Everything that Kitestring has on a Prefect server: pools, a limit, deployments, automations.

    PREFECT_API_URL=http://127.0.0.1:4200/api python deployments/install.py [process docker ...]

The kinds of pools that are named are made, all of them where none is: a pool without a worker shows a red dot in the UI.
Again, it leaves alone what is there; the deployments and the automations become what the files say. A notification
block that is called `kitestring-notify` is told of too many rows in quarantine; $KITESTRING_NOTIFY makes one that
posts to that URL.
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
    """Install; each step says what it did."""
    kinds = sys.argv[1:] or list(POOLS)
    if unknown := set(kinds) - set(POOLS):
        sys.exit(f"no kind of pool: {', '.join(sorted(unknown))}; there are {', '.join(POOLS)}")
    with get_client(sync_client=True) as client:
        for kind in kinds:
            create_pool(client, kind, POOLS[kind])
        create_limit(client)
        deploy()
        lead_forms(client)
        create_automations(client)


def create_pool(client: SyncPrefectClient, kind: str, name: str) -> None:
    """A work pool with the template of its kind; one that is there may have been edited, and stays."""
    template = json.loads((HERE / "pools" / f"{kind}.json").read_text())
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
    except ObjectAlreadyExists:
        say(f"pool {name} is there")
    else:
        say(f"pool {name} ({kind})")


def create_limit(client: SyncPrefectClient) -> None:
    """One encoder at a time, over all hosts; with several GPU hosts it wants as many slots."""
    try:
        client.read_global_concurrency_limit_by_name(LIMIT)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=1))
        say(f"concurrency limit {LIMIT}: one run at a time")
    else:
        say(f"concurrency limit {LIMIT} is there")


def deploy() -> None:
    """Every deployment of prefect.yaml."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(HERE / "prefect.yaml"), "--all"]
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"prefect deploy failed:\n{done.stdout}")


def lead_forms(client: SyncPrefectClient) -> None:
    """Each deployment's run form as `flows.run_form` has it."""
    for deployment in yaml.safe_load((HERE / "prefect.yaml").read_text())["deployments"]:
        flow = import_object(deployment["entrypoint"])
        there = client.read_deployment_by_name(f"{flow.name}/{deployment['name']}")
        form = with_form(there.parameter_openapi_schema, there.parameters)
        client.request("PATCH", "/deployments/{id}", path_params={"id": there.id}, json={"parameter_openapi_schema": form})
        say(f"deployment {deployment['name']}")


def create_automations(client: SyncPrefectClient) -> None:
    """Each file's automation, in the place of one of the same name."""
    block = notification_block(client)
    for file in sorted((HERE / "automations").glob("*.yaml")):
        document = yaml.safe_load(file.read_text())
        document["actions"] = [told(action, block) for action in document["actions"]]
        wanted = AutomationCore.model_validate(document)
        for old in request(client, "/automations/filter", {"automations": {"name": {"any_": [wanted.name]}}}):
            client.request("DELETE", "/automations/{id}", path_params={"id": old["id"]})
        request(client, "/automations/", wanted.model_dump(mode="json"))
        say(f"automation {wanted.name}")


def told(action: dict[str, Any], block: str | None) -> dict[str, Any]:
    """A notification goes to the block; with none there is nothing to do but to show it in the UI."""
    if action.get("block_document_id") != "notify":
        return action
    return {**action, "block_document_id": block} if block else {"type": "do-nothing"}


def notification_block(client: SyncPrefectClient) -> str | None:
    """The id of the block to notify, made of $KITESTRING_NOTIFY where that is set."""
    if url := os.environ.get("KITESTRING_NOTIFY"):
        body = {"subject": "{{subject}}", "body": "{{body}}"}
        CustomWebhookNotificationBlock(name="Kitestring", url=url, json_data=body).save(NOTIFY, overwrite=True)
    found = request(client, "/block_documents/filter", {"block_documents": {"name": {"any_": [NOTIFY]}}})
    return str(found[0]["id"]) if found else None


def request(client: SyncPrefectClient, path: str, body: dict[str, Any]) -> Any:
    """POST; the server's answer."""
    return client.request("POST", path, json=body).json()


def say(what: str) -> None:
    """For who watches."""
    sys.stdout.write(f"{what}\n")


if __name__ == "__main__":
    main()
