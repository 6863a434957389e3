"""Networks: tensors in, tensors out; no files, no frames, no devices."""
