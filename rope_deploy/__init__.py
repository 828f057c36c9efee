"""Take rotary position embeddings from PyTorch to ONNX Runtime and TensorRT, and prove they survived."""

__version__ = "0.1.0"
