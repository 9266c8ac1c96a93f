"""Which explanations to trust, within a budget: photos in, findings out, and a run that can be stopped at any time."""

from .errors import AuditError
from .findings import FINDINGS, Finding
from .plan import Plan, read_plan
from .planning import AuditOptions
from .run import audit

__all__ = ["FINDINGS", "AuditError", "AuditOptions", "Finding", "Plan", "audit", "read_plan"]
