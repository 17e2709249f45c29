"""What is there only to be fast: exports, and the runtimes that run them.

`export`: a model as an ONNX file; `runtime`: such a file in ONNX Runtime or OpenVINO, with the face of a model.
"""
