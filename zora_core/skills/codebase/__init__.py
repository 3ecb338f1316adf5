"""Static analysis of a directory of source code; nothing that is analysed is imported or run."""

from zora_core.skills.codebase.analyze import Analysis, analyze
from zora_core.skills.codebase.repository import Commit, GitFailed, export_head, find_repository, read_history

__all__ = ["Analysis", "Commit", "GitFailed", "analyze", "export_head", "find_repository", "read_history"]
