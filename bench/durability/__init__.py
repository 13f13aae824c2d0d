"""What it costs that SQLite's commits survive the loss of power."""
