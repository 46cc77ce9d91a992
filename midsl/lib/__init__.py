"""Python behind the standard library's `extern fn`s that give tensors: arrays in, arrays out."""
