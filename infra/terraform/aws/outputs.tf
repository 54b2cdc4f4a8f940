output "checkpoint" {
  description = "The value of a job's `checkpoint` setting."
  value       = "s3://${aws_s3_bucket.checkpoints.bucket}/kitestring"
}

output "jobs_policy_arn" {
  description = "The policy for jobs that run elsewhere: in pods, on other instances, on a laptop."
  value       = aws_iam_policy.jobs.arn
}
