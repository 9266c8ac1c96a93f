"""The page of HTML: everything in it, nothing that is loaded, names escaped."""

from dataclasses import replace

from cfcam.calibration.verify import verify
from cfcam.calibration.verify.report import render_report


def test_the_page_loads_nothing_and_escapes_names(tiny_path, photos):
    plain = tiny_path("logits")
    report = verify(plain, plain, photos[:2], {"top1": 0.5}, pictures=0)
    harmless = replace(report.photos[0], name="<script>.jpg", label="<b>", agrees=False)
    page = render_report(replace(report, photos=(harmless, *report.photos[1:])), command="cfcam verify <x>")
    assert "Passed." in page
    assert "&lt;b&gt; became" in page
    assert "cfcam verify &lt;x&gt;" in page
    assert "<script" not in page
    assert "://" not in page
