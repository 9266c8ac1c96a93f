"""Audits: explanations of many photos within a budget, what was found in them, and a report that can be signed."""
