"""Text Generation Inference: found, started, asked and understood. Its parts follow its sources; it was not run."""
