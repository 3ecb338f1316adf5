"""Orders, prices and deliveries of a refill shop."""
