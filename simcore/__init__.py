"""Types, machinery and physics shared by every virtual instrument."""
