"""Folders of audits with rows that a test chooses."""

from cfcam.calibration.audit.parts import write_part
from cfcam.calibration.audit.plan import Plan, write_plan
from cfcam.calibration.audit.row import empty_row


def audit_folder(folder, columns, method="cfcam", **plan):
    """A folder with a plan and one part. columns: number of the photo -> what its row says. plan: its other fields."""
    (folder / "parts").mkdir(parents=True)
    write_plan(folder / "plan.json", Plan("ab" * 32, method, {}, **plan))
    known = {"empty": False, "target": 1, "probability": 0.9}
    rows = [empty_row(f"{n}.jpg", f"{n:064}") | known | one for n, one in columns.items()]
    write_part(folder / "parts", rows)
    return folder
