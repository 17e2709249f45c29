"""What is there only to be fast, applied to a model from outside, which has one hook for it: `fast_estimate`.

`folding`: a copy of a model on folded weights, for evaluation; `folded`, `folded_attention`, `folded_layers`: what it
is made of. `incremental`: that copy on audio that still arrives, with `frames` and `streaming_input`.
`training_layers`: convolutions and attention that train faster, swapped in; `export`: a model as an ONNX file;
`runtime`: such a file in ONNX Runtime or OpenVINO, with the face of a model; `runtime_choice`: which of these, by CPU;
`graph_cache`: where such files are.
"""
