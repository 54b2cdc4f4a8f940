output "checkpoint" {
  description = "A job's `checkpoint`."
  value       = "s3://${aws_s3_bucket.checkpoints.bucket}/kitestring"
}

output "jobs_policy_arn" {
  description = "The policy for whoever runs jobs elsewhere: pods, other instances, a laptop."
  value       = aws_iam_policy.jobs.arn
}
