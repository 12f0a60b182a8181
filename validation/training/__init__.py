"""Training of learned analysers on data that this engine makes while they learn."""
