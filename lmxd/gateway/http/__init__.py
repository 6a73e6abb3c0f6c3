"""HTTP as bytes, with no lease in sight: heads, bodies, forms, paths, origins, and one exchange with an engine."""
