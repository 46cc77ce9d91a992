"""What runs a lowered graph: eager.py, inductor.py, hooks.py."""
