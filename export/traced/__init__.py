"""The traced route: a PyTorch module in, a joint forward and backward graph out.

Passes, in order, one module each: `capture` (module -> functional graph), `values` (which
value is the target layer), `fold` (batch norms into convolutions), `differentiate` (cut
at the layer, trace forward and the tail's backward), `seed` (the class's one-hot, gathered
where it meets weights), `lean` (nothing computed twice), `convert` (to ONNX).
"""
