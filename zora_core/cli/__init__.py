"""The commands of `zora`, by what they are about. Each module imports what it needs only when a command runs."""
