"""The sinks that receive verdicts as events: SNS, EventBridge, SQS and a webhook."""
