variable "region" {
  description = "Where everything is made."
  type        = string
  default     = "us-east-1"
}

variable "name" {
  description = "Prefix of the names of what is made."
  type        = string
  default     = "kitestring"
}

variable "bucket" {
  description = "Bucket of the checkpoints, to be made: s3://BUCKET/kitestring is then a job's `checkpoint`."
  type        = string
}

variable "source_buckets" {
  description = "Existing buckets with sources, which jobs may read."
  type        = list(string)
  default     = []
}

variable "image" {
  description = "The image of infra/Dockerfile, in a registry that the instances reach."
  type        = string
}

variable "prefect_secret_arn" {
  description = "Secret of Secrets Manager with the JSON keys PREFECT_API_URL, PREFECT_API_KEY and MILVUS_TOKEN."
  type        = string
}

variable "work_pool" {
  description = "Prefect work pool (type process) that the workers serve."
  type        = string
  default     = "kitestring"
}

variable "subnets" {
  description = "Subnets of the instances; they need a way to the Prefect server, Milvus, S3 and the registry."
  type        = list(string)
}

variable "security_groups" {
  description = "Security groups of the instances; only outgoing connections are needed."
  type        = list(string)
  default     = []
}

variable "instance_type" {
  description = "An instance type with GPUs."
  type        = string
  default     = "g6.xlarge"
}

variable "gpus" {
  description = "GPUs of an instance of that type; a worker takes all of them."
  type        = number
  default     = 1
}

variable "memory" {
  description = "MiB that a worker reserves of an instance's memory."
  type        = number
  default     = 12288
}

variable "workers" {
  description = "Workers, each on an instance of its own."
  type        = number
  default     = 1
}

variable "spot" {
  description = "Whether the instances may be taken away at two minutes' notice; finished parts are kept in the bucket."
  type        = bool
  default     = false
}
