"""The logic of Hindcast: pure functions and small classes. Never imports the orchestrator."""
