"""The only place that knows Ollama's wire format: types, errors, protocol without I/O, and the client."""
