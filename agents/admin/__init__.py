"""The agents' console pages. Django imports this package to register them."""

from agents.admin import agents, nodes, panels, places, sessions, tasks

__all__ = ["agents", "nodes", "panels", "places", "sessions", "tasks"]
