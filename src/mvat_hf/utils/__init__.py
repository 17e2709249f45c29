"""Helpers of all packages that have nothing to do with speech.

`errors`: what users did wrong, told in one line; `files`: files that appear whole or not at all; `cores`: how many CPU
cores there are to use; `onnx`: networks of others in ONNX Runtime; `pcm`: integer samples; `records`:
run records, with the environment and the hash of weights; `plotting`: help for pictures; `imports`: what is done once a
module is imported.
"""
