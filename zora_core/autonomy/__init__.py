"""The runtime that works through the queue."""
