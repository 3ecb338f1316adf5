"""The runtime that works through the queue, and its command line."""
