"""Pages for everybody about their own account."""
