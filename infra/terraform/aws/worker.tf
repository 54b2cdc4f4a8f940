locals {
  worker = ["prefect", "worker", "start", "--pool", var.work_pool, "--type", "process"]
}

data "aws_ssm_parameter" "gpu_image" {
  name = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
}

resource "aws_ecs_cluster" "workers" {
  name = var.name
}

resource "aws_cloudwatch_log_group" "worker" {
  name              = "/ecs/${var.name}"
  retention_in_days = 30
}

resource "aws_launch_template" "gpu" {
  name_prefix            = "${var.name}-"
  image_id               = data.aws_ssm_parameter.gpu_image.value
  instance_type          = var.instance_type
  vpc_security_group_ids = var.security_groups
  user_data = base64encode(join("\n", [
    "#!/bin/bash",
    "echo ECS_CLUSTER=${aws_ecs_cluster.workers.name} >> /etc/ecs/ecs.config",
    "echo ECS_ENABLE_SPOT_INSTANCE_DRAINING=true >> /etc/ecs/ecs.config",
    "",
  ]))

  iam_instance_profile {
    arn = aws_iam_instance_profile.instance.arn
  }

  dynamic "instance_market_options" {
    for_each = var.spot ? ["spot"] : []
    content {
      market_type = instance_market_options.value
    }
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size = 100
      volume_type = "gp3"
      encrypted   = true
    }
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

resource "aws_autoscaling_group" "gpu" {
  name_prefix         = "${var.name}-"
  min_size            = 0
  max_size            = var.workers
  desired_capacity    = var.workers
  vpc_zone_identifier = var.subnets

  launch_template {
    id      = aws_launch_template.gpu.id
    version = aws_launch_template.gpu.latest_version
  }

  tag {
    key                 = "Name"
    value               = "${var.name}-worker"
    propagate_at_launch = true
  }
}

resource "aws_ecs_task_definition" "worker" {
  family                   = "${var.name}-worker"
  requires_compatibilities = ["EC2"]
  network_mode             = "host"
  task_role_arn            = aws_iam_role.worker.arn
  execution_role_arn       = aws_iam_role.start.arn
  container_definitions = jsonencode([{
    name                 = "worker"
    image                = var.image
    command              = local.worker
    essential            = true
    memory               = var.memory
    stopTimeout          = 60
    resourceRequirements = [{ type = "GPU", value = tostring(var.gpus) }]
    linuxParameters      = { initProcessEnabled = true, sharedMemorySize = 1024 }
    environment          = [{ name = "AWS_REGION", value = var.region }]
    secrets = [
      for key in ["PREFECT_API_URL", "PREFECT_API_KEY", "MILVUS_TOKEN"] :
      { name = key, valueFrom = "${var.prefect_secret_arn}:${key}::" }
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.worker.name
        "awslogs-region"        = var.region
        "awslogs-stream-prefix" = "worker"
      }
    }
  }])
}

resource "aws_ecs_service" "worker" {
  name                               = "worker"
  cluster                            = aws_ecs_cluster.workers.id
  task_definition                    = aws_ecs_task_definition.worker.arn
  launch_type                        = "EC2"
  desired_count                      = var.workers
  deployment_minimum_healthy_percent = 0 # the new worker needs the GPUs that the old one holds
  deployment_maximum_percent         = 100

  placement_constraints {
    type = "distinctInstance"
  }
}
