"""Light microscopy: dyes and their blinking, point spread functions, illumination, background."""
