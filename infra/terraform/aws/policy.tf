# Exactly what a run calls: a test compares these actions with the requests of a run, and runs a job with no others.
# s3:PutObject covers uploads in pieces, s3:GetObject covers HEAD, s3:DeleteObject covers deletions of many.
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
