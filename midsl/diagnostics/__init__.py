"""One Diagnostic type, its codes and its renderers."""
