"""The journal that can be proven: sealed in signed blocks, verified without trusting the database that holds it."""
