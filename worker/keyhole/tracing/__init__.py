"""Traces for OpenTelemetry. They are off unless `KEYHOLE_TRACES` is set.

    an event, an attempt, a GET, … ──► tracer ──► OpenTelemetry's SDK ──► a thread ──► OTLP over HTTP
                                       (does nothing, if off)

`tracer` is the interface. `spans` implements it with OpenTelemetry. A process without traces imports only
`tracer`, and not OpenTelemetry.
"""
