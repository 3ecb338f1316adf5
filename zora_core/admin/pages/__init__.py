"""The pages, a module each; what they share is in `zora_core/admin`."""

from zora_core.admin.pages import (
    access,
    agents,
    climate,
    create,
    journal,
    memory,
    schedules,
    suggestions,
    system,
    task,
    tasks,
    workflow_runs,
    workflows,
)

# Fixed paths come before those with an id.
ROUTES = [
    *create.pages,
    *tasks.pages,
    *task.pages,
    *suggestions.pages,
    *agents.pages,
    *workflows.pages,
    *workflow_runs.pages,
    *climate.pages,
    *schedules.pages,
    *journal.pages,
    *memory.pages,
    *system.pages,
    *access.pages,
]
