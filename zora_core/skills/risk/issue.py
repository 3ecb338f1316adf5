"""What a check of the safety review hands over, before it becomes a finding."""

from __future__ import annotations

from dataclasses import dataclass

from zora_core.models import Evidence


@dataclass(frozen=True)
class Issue:
    """One thing found wrong with one or more tasks; `rule_id` is a key of the rules in `data/risk_rules.toml`.

    `evidence` is what there is besides the rows of the tasks themselves.
    """

    rule_id: str
    task_ids: tuple[str, ...]
    detail: str
    evidence: tuple[Evidence, ...] = ()

    @property
    def is_injection(self) -> bool:
        """Whether the issue is about text that gives orders."""
        return self.rule_id in ("risk.injected-instruction", "risk.injected-output")
