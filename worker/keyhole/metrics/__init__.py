"""Metrics for Prometheus. They are off unless `KEYHOLE_METRICS_PORT` is set.

    an attempt, a verdict, … ──► recorder ──► prometheus_client ──┐
                                 (does nothing, if off)           ├──► page ──► server: GET /metrics
    Redis and the broker ──► gauges, read during a request ───────┘

`table` lists all metrics. A process without metrics imports only `recorder`, and not `prometheus_client`.
"""
