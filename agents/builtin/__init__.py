"""The built-in model: no weights. It quotes the handbook and analyses text by classical methods."""
