"""Runs as metrics and traces (OpenTelemetry) and as lineage (OpenLineage): off unless they are asked for."""
