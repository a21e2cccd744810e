"""The engine that walks every wanted pixel through all steps, on the CPU and on a GPU."""
