"""The main job on real weights and real photos; not a part of the installed package."""
