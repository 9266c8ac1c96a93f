"""Measuring what a file costs on this machine.

`TimedFile` opens it, `measure` times it, `soak` watches it, `latency_plan` says what fits into a budget, `document` is
the result as JSON, and `compare` puts two of those side by side.

>>> from cfcam.runtime.bench.timed_file import TimedFile                        # doctest: +SKIP
>>> from cfcam.runtime.bench.measure import measure                        # doctest: +SKIP
>>> with TimedFile("dogs.cam.onnx", "two_dogs.jpg", threads=1) as timed:   # doctest: +SKIP
...     print(measure(timed).latency["explanation"].p99)
"""
