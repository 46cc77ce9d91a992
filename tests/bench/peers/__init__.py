"""One worker per library: the same workloads, written as its users write them."""
