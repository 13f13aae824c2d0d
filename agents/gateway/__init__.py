"""The doors for programs that speak to other servers: OpenAI's and Ollama's wire formats."""
