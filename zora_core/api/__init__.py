"""The HTTP API: tasks, live status and records over HTTP and WebSocket."""
