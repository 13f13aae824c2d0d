"""The pages of people who use agents, as far as they are the platform's: their settings and
notifications."""
