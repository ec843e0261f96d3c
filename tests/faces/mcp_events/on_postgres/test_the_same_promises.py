"""Webhook subscriptions again, with PostgreSQL underneath: what a host is told does not depend on the store."""

# ruff: noqa: F403
from tests.faces.mcp_events.test_webhook_rules import *
from tests.faces.mcp_events.test_webhooks import *
