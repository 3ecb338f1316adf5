"""PostgreSQL: reaching it, its schema, and the one way to call its functions."""
