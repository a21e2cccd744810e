"""Looking at frames: pictures, a page that needs no other file, and a small server (docs/looking.md)."""
