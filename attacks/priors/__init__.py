"""Image priors: pieces that optimisation attacks share."""
