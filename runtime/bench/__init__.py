"""Measuring what a file costs on this machine.

`Subject` opens it, `measure` times it, `soak` watches it, `latency_plan` says what fits into a budget, `document` is
the result as JSON, and `compare` puts two of those side by side.

>>> from cfcam.runtime.bench.timed_file import Subject                        # doctest: +SKIP
>>> from cfcam.runtime.bench.measure import measure                        # doctest: +SKIP
>>> with Subject("dogs.cam.onnx", "two_dogs.jpg", threads=1) as subject:   # doctest: +SKIP
...     print(measure(subject).latency["explanation"].p99)
"""
