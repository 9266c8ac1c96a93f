"""What only PyTorch knows of a model: its program, the names of its values, its outputs, and what autograd says.

`capture` (module -> program), `convert` (program -> plain ONNX), `names` (what people call a value, and which value of
the plain ONNX that is), `outputs` (what a module returns), `eager` and `float64` (the judge of the proof). The gradient
is written in the ONNX graph, by `reverse`.
"""
