# Exactly the actions of a run: a test compares them with a run's requests, and runs a job with these permissions only.
# s3:PutObject covers multipart uploads, s3:GetObject covers HEAD, s3:DeleteObject covers batch deletions.
data "aws_iam_policy_document" "jobs" {
  statement {
    sid       = "ListCheckpoints"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.checkpoints.arn]
  }
  statement {
    sid       = "WriteCheckpoints"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.checkpoints.arn}/*"]
  }
  dynamic "statement" {
    for_each = toset(var.source_buckets)
    content {
      sid       = "ListSource${index(var.source_buckets, statement.value)}"
      actions   = ["s3:ListBucket"]
      resources = ["arn:aws:s3:::${statement.value}"]
    }
  }
  dynamic "statement" {
    for_each = toset(var.source_buckets)
    content {
      sid       = "ReadSource${index(var.source_buckets, statement.value)}"
      actions   = ["s3:GetObject"]
      resources = ["arn:aws:s3:::${statement.value}/*"]
    }
  }
}

resource "aws_iam_policy" "jobs" {
  name        = "${var.name}-jobs"
  description = "Read sources, keep checkpoints: what a Kitestring job needs of S3, and nothing else."
  policy      = data.aws_iam_policy_document.jobs.json
}
