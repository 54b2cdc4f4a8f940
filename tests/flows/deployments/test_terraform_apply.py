"""infra/terraform by the real `terraform` with the AWS provider: validated, planned, and applied to moto's servers.

All of it is planned; the ECS service alone is not applied, since moto's answer for one without a network of its own ends the provider.
Both have to be on this machine already, the provider in a folder with the layout of a mirror; where one is missing, skipped with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.builders.terraform_files import FOLDER, policy_document
from tests.servers.s3 import S3Server, s3_process

MIRRORS = (
    "~/.terraform.d/plugins",
    "~/.local/share/terraform/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt/*",
)
PROVIDER = "registry.terraform.io/hashicorp/aws/*/linux_amd64/terraform-provider-aws_*"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
SERVICE = "aws_ecs_service.worker"
COMMAND_SECONDS = 240


def mirror() -> Path | None:
    """The folder from which Terraform may install the AWS provider."""
    for place in (Path(text).expanduser() for text in MIRRORS):
        for found in place.parent.glob(place.name):
            if any(found.glob(PROVIDER)):
                return found
    return None


class Terraform:
    """The project's files in a folder of their own, with a provider that calls a server of moto's and nothing else."""

    def __init__(self, folder: Path, server: S3Server, plugins: Path) -> None:
        self._folder, self._server = folder / "aws", server
        shutil.copytree(FOLDER, self._folder)
        mirrored = f'provider_installation {{\n  filesystem_mirror {{\n    path = "{plugins}"\n  }}\n}}\n'
        (folder / "terraformrc").write_text(mirrored)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
        self._env = inherited | {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "CHECKPOINT_DISABLE": "1",
            "HOME": str(folder),
            "TF_CLI_CONFIG_FILE": str(folder / "terraformrc"),
            "TF_IN_AUTOMATION": "1",
        }

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What a command says. AssertionError with all of it where it ends with another code."""
        command = ["terraform", *arguments, "-no-color"]
        done = subprocess.run(
            command, cwd=self._folder, env=self._env, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self._server.url, **KEYS)

    def variables(self) -> None:
        """An account's network and secret, and `terraform.tfvars.json` that names them as a user's would."""
        subnets = [subnet["SubnetId"] for subnet in self.client("ec2").describe_subnets()["Subnets"]]
        secret = self.client("secretsmanager").create_secret(Name="prefect", SecretString="{}")["ARN"]
        given = {"bucket": "vectors", "source_buckets": ["lake"], "image": "kitestring:1", "subnets": subnets, "prefect_secret_arn": secret}
        (self._folder / "terraform.tfvars.json").write_text(json.dumps(given))


def test_terraform_applies_to_moto_what_the_files_say_and_then_finds_nothing_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("terraform"):
        pytest.skip("terraform is not installed here")
    if (plugins := mirror()) is None:
        pytest.skip(f"no folder of {', '.join(MIRRORS)} has {PROVIDER}")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
    with s3_process() as server:
        terraform = Terraform(tmp_path, server, plugins)
        terraform.variables()
        terraform("init", "-input=false")
        assert "Success!" in terraform("validate")
        said = terraform("plan", "-input=false")
        resources = set(re.findall(r"^  # (aws_\S+) will be created", said, re.MULTILINE))
        assert f"Plan: {len(resources)} to add, 0 to change, 0 to destroy" in said
        applied = resources - {SERVICE}
        targets = [f"-target={name}" for name in sorted(applied)]
        said = terraform("apply", "-auto-approve", "-input=false", *targets)
        assert f"Apply complete! Resources: {len(applied)} added, 0 changed, 0 destroyed" in said
        assert re.search(r'checkpoint *= "s3://vectors/kitestring"', said)
        look_at_the_bucket(terraform)
        look_at_the_policy(terraform)
        look_at_the_workers(terraform)
        assert "No changes." in terraform("plan", "-detailed-exitcode", "-input=false", *targets)


def look_at_the_bucket(terraform: Terraform) -> None:
    s3 = terraform.client("s3")
    assert all(s3.get_public_access_block(Bucket="vectors")["PublicAccessBlockConfiguration"].values())
    (rule,) = s3.get_bucket_encryption(Bucket="vectors")["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket="vectors")["Rules"]
    assert (rule["Status"], rule["AbortIncompleteMultipartUpload"]) == ("Enabled", {"DaysAfterInitiation": 1})
    assert "Expiration" not in rule


def look_at_the_policy(terraform: Terraform) -> None:
    """Terraform writes the policy with which the other tests run a job."""
    iam = terraform.client("iam")
    (policy,) = [policy for policy in iam.list_policies(Scope="Local")["Policies"] if policy["PolicyName"] == "kitestring-jobs"]
    written = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])["PolicyVersion"]["Document"]
    assert allowed_by(written) == allowed_by(policy_document())
    (attached,) = iam.list_attached_role_policies(RoleName="kitestring-worker")["AttachedPolicies"]
    assert attached["PolicyArn"] == policy["Arn"]


def allowed_by(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Resource and action; a policy may write one of a kind without a list."""
    found = set[tuple[str, str]]()
    for statement in document["Statement"]:
        actions, resources = ([one] if isinstance(one, str) else one for one in (statement["Action"], statement["Resource"]))
        assert statement["Effect"] == "Allow"
        found |= {(resource, action) for resource in resources for action in actions}
    return found


def look_at_the_workers(terraform: Terraform) -> None:
    (group,) = terraform.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["MinSize"], group["DesiredCapacity"]) == (0, 1)
    ecs = terraform.client("ecs")
    (worker,) = ecs.describe_task_definition(taskDefinition="kitestring-worker")["taskDefinition"]["containerDefinitions"]
    assert worker["command"][:3] == ["prefect", "worker", "start"]
    assert {secret["name"] for secret in worker["secrets"]} == {"PREFECT_API_URL", "PREFECT_API_KEY", "MILVUS_TOKEN"}
    assert worker["resourceRequirements"] == [{"type": "GPU", "value": "1"}]
