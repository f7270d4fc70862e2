"""Policies, which turn a conversation into the agent's next reply."""

from trajtree.policies.base import Conversation, Policy, Reply

__all__ = ["Conversation", "Policy", "Reply"]
