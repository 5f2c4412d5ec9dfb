"""One way of running models a file (`embedfleet.inference.registry` lists them), and what they share."""
