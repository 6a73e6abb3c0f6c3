"""HTTP as bytes: heads, bodies, forms, paths, origins, and exchanges with engines over connections that may be kept."""
