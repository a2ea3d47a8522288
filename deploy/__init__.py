"""Running skep in containers: what the image needs inside, and a demo of a whole cluster."""
