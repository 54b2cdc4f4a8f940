"""Metrics and traces (OpenTelemetry) and lineage events (OpenLineage) of runs; all are off by default."""
