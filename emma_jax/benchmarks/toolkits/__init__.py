"""Other toolkits and servers: asked by them, and files for them."""
