"""The pages of people who use agents: what they did, and the chat. They speak to the API as any client does."""
