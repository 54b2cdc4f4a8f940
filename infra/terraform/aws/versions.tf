# Kitestring on AWS: a bucket for checkpoints, a policy for jobs, and a Prefect worker on GPU instances.
#     terraform init && terraform apply -var bucket=... -var image=... -var 'subnets=[...]' -var prefect_secret_arn=...
terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80"
    }
  }
}

provider "aws" {
  region = var.region
}
