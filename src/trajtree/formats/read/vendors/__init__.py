"""Logs in a vendor's own parts, from its API or its command line: Anthropic, OpenAI, Google, OpenTelemetry."""
