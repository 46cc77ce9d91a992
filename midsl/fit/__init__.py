"""Parameters of decompositions: drawn, fitted, kept."""
