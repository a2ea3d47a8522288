"""Data, never code of the platform: one folder a runtime, with its agent and examples."""
