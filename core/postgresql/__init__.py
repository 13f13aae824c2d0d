"""Django's backend for PostgreSQL, which checks a pooled connection only where it may have died meanwhile."""
