"""Where spots fall and how many photons they bring, without rendering a frame."""
