"""From a loaded PyTorch model to an ONNX graph."""
