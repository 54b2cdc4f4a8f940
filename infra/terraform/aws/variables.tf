variable "region" {
  description = "AWS region of all resources."
  type        = string
  default     = "us-east-1"
}

variable "name" {
  description = "Prefix of all resource names."
  type        = string
  default     = "kitestring"
}

variable "bucket" {
  description = "Name of the bucket to create for checkpoints; a job's `checkpoint` is then s3://BUCKET/kitestring."
  type        = string
}

variable "source_buckets" {
  description = "Existing source buckets that jobs may read."
  type        = list(string)
  default     = []
}

variable "image" {
  description = "The image of infra/Dockerfile, in a registry that the instances can reach."
  type        = string
}

variable "prefect_secret_arn" {
  description = "ARN of a Secrets Manager secret with the JSON keys PREFECT_API_URL, PREFECT_API_KEY and MILVUS_TOKEN."
  type        = string
}

variable "work_pool" {
  description = "Prefect work pool (type process) that the workers serve."
  type        = string
  default     = "kitestring"
}

variable "subnets" {
  description = "Subnets of the instances, with routes to the Prefect server, Milvus, S3 and the registry."
  type        = list(string)
}

variable "security_groups" {
  description = "Security groups of the instances; only outbound connections are needed."
  type        = list(string)
  default     = []
}

variable "instance_type" {
  description = "An instance type with GPUs."
  type        = string
  default     = "g6.xlarge"
}

variable "gpus" {
  description = "Number of GPUs of an instance of that type; a worker uses all of them."
  type        = number
  default     = 1
}

variable "memory" {
  description = "Memory in MiB that a worker reserves on an instance."
  type        = number
  default     = 12288
}

variable "workers" {
  description = "Number of workers, each on its own instance."
  type        = number
  default     = 1
}

variable "spot" {
  description = "Whether to use spot instances, which AWS may reclaim with two minutes' notice; finished parts are kept in the bucket."
  type        = bool
  default     = false
}
